"""The methods' pages say what the code says, and show what runs gave."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest
import yaml

from benchmarks import pages
from benchmarks.cases import METHODS
from benchmarks.machine import ROOT
from benchmarks.method_runs import SUITES, Run, read_runs, results_table, suite_cell
from benchmarks.ratios import UsageError
from benchmarks.sections import replace
from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.sharing import method_names

SOLVED, MISSED = [480.0, 500.0], [500.0, 100.0]


def write_run(folder: Path, method: str, suite: str, seed: int, finals: list[float], steps: int | None) -> None:
    """A run of two evaluations, the first of them at half of the final returns."""
    run = folder / f"{suite}_{method}" / f"seed_{seed}"
    run.mkdir(parents=True)
    columns = heartbeat_columns(2)
    lines = [",".join(columns)]
    for env_steps, share in ((100, 0.5), (200, None), (300, 1.0)):
        returns = {f"eval/return_task_{m}": str(share * finals[m]) for m in (0, 1)} if share else {}
        lines.append(",".join({"env_steps": str(env_steps), **returns}.get(column, "") for column in columns))
    (run / "heartbeat.csv").write_text("\n".join(lines) + "\n")
    summary = {"method": method, "suite": suite, "seed": seed, "task_names": ["a", "b"], "steps_to_solve": steps}
    (run / "summary.json").write_text(json.dumps(summary | {"final": {"return_per_task": finals}}))


def replace_steps(run: Run, steps: int) -> Run:
    return dataclasses.replace(run, steps_to_solve=steps)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for method in METHODS:
        for suite in SUITES:
            write_run(tmp_path, method, suite, 2, MISSED, None)
            write_run(tmp_path, method, suite, 1, SOLVED, 20_480)
    return tmp_path


@pytest.mark.parametrize("method", METHODS)
def test_a_page_says_what_the_code_says(method):
    page = pages.FOLDER / f"{method}.md"
    text = page.read_text(encoding="utf-8")
    up_to_date = replace(text, pages.METHOD, pages.about(method), page.name)
    assert text == up_to_date, "python -m benchmarks pages brings docs/methods up to date"
    assert "arXiv" in text
    assert f"]({method}.png)" in text
    assert (pages.FOLDER / f"{method}.png").stat().st_size > 5000
    assert all(f"| {suite} | " in text for suite in SUITES)


def test_the_index_lists_every_method_of_the_package():
    package = {name for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
    assert set(METHODS) == package
    text = (pages.FOLDER / "index.md").read_text(encoding="utf-8")
    assert pages.index_table() in text


def test_the_study_behind_the_pages_has_every_method():
    study = yaml.safe_load((ROOT / "configs" / "studies" / "methods.yaml").read_text(encoding="utf-8"))
    assert study["methods"] == {method: f"methods/{method}" for method in METHODS}
    assert len(study["suites"]) == len(SUITES)


def test_options_are_those_of_the_signature():
    for method in METHODS:
        cls = method_names()[method]
        table = pages.options_table(cls)
        if cls.__init__ is object.__init__:
            assert "no options" in table
            continue
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        assert [row.split("`")[1] for row in table.splitlines()[2:]] == names
    assert "| `num_sets` | `5` | K, the number of parameter sets." in pages.options_table(method_names()["paco"])


def test_runs_are_read_and_told(runs):
    found = read_runs(runs, "film")
    first, second = found.suites["MirroredCartPole"]
    assert (first.seed, second.seed) == (1, 2)
    assert first.env_steps.tolist() == [100, 300]  # the rows with an evaluation
    assert second.returns.tolist() == [[250, 50], [500, 100]]
    assert "| MirroredCartPole | 1/2 | 20k | 490, 300 | 480, 100 |" in results_table(found)
    assert suite_cell([second]) == "0/1"
    assert suite_cell([first, first, second]) == "2/3, 20k"
    assert suite_cell([first, second, replace_steps(first, 30_000)]) == "2/3, 30k"  # of 20k, 30k and unsolved
    assert suite_cell([first, second, second]) == "1/3"
    write_run(runs / "again", "film", "MirroredCartPole", 1, SOLVED, 5120)
    with pytest.raises(UsageError, match=r"film on MirroredCartPole have the seeds \[1, 1, 2\]"):
        read_runs(runs, "film")
    with pytest.raises(UsageError, match=r"film on ComplexCartPole have the seeds \[\]"):
        read_runs(runs / "again", "film")


def test_pages_are_made_and_remarks_are_kept(runs, tmp_path):
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "index.md").write_text((pages.FOLDER / "index.md").read_text(encoding="utf-8"), encoding="utf-8")
    pages.write_pages(None, folder)
    page = folder / "film.md"
    assert "1709.07871" in page.read_text(encoding="utf-8")
    assert "1/2" not in page.read_text(encoding="utf-8")
    page.write_text(page.read_text(encoding="utf-8") + "\nA remark.\n", encoding="utf-8")
    pages.write_pages(runs, folder)
    text = page.read_text(encoding="utf-8")
    assert text.endswith("A remark.\n")
    assert "| ComplexCartPole | 1/2 | 20k |" in text
    assert (folder / "film.png").stat().st_size > 5000
    assert "| [film](film.md) | 1/2, 20k | 1/2, 20k | 1/2, 20k |" in (folder / "index.md").read_text(encoding="utf-8")


def test_a_page_without_its_markers_is_refused(tmp_path):
    (tmp_path / f"{METHODS[0]}.md").write_text("# mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"has no <!-- method --> … <!-- /method -->"):
        pages.write_pages(None, tmp_path)
