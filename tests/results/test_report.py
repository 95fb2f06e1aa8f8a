import math
import re
from pathlib import Path

import pytest
from seed_runs import FILES, curve, numbers_of, report, rows_of, write_seed

from varshare_pl.cli.main import main

SHEETS = [
    "answer",
    "curves_MadeUp",
    "tasks_MadeUp",
    "sharing_MadeUp",
    "sharing_iqm_MadeUp",
    "sharing_seconds_MadeUp",
    "layers_MadeUp_varshare",
    "residuals_MadeUp_varshare",
]
FIGURES = sorted(f"{name}.{suffix}" for name in SHEETS for suffix in ("png", "svg"))


def figures_in(folder):
    return sorted(path.name for path in (folder / "report" / "figures").iterdir())


def test_curves_of_three_seeds_by_hand(three, capsys, drawn):
    report(three, capsys)
    # up: 10, 40, 70 and carried over the second rollout, in which none of its episodes ended
    assert curve(three, "train/return", "0") == [(100, 40, 30, 3), (200, 40, 30, 3), (300, 60, 30, 3), (400, 70, 30, 3)]
    # down: not known at first
    assert curve(three, "train/return", "1") == [(200, 50, 30, 3), (300, 50, 30, 3), (400, 50, 0, 3)]
    # the mean over tasks, of each seed first: at 200 it is (10 + 20) / 2 + level, at 400 (40 + 50 + level) / 2
    assert curve(three, "train/return") == [(200, 45, 30, 3), (300, 55, 30, 3), (400, 60, 15, 3)]
    assert curve(three, "eval/return", "1") == [(200, 4, 2, 3), (400, 80, pytest.approx(math.sqrt(700)), 3)]
    assert curve(three, "eval/return") == [(200, 3, 1.5, 3), (400, 87.5, pytest.approx(math.sqrt(147.25)), 3)]
    assert curve(three, "kl/policy")[0] == (100, pytest.approx(0.02), pytest.approx(0.01), 3)
    # over 2 networks and 2 layers the KL of a task is 4 (seed + task)
    assert curve(three, "kl/posterior_by_task", "1")[3] == (400, 12, 4, 3)
    assert curve(three, "kl/posterior_by_task")[3] == (400, 10, 4, 3)
    for steps, mean, std, runs in curve(three, "sharing/ratio", "", "critic", "head"):
        assert (mean, std, runs) == (pytest.approx(0.3), pytest.approx(0.1), 3), steps
    assert curve(three, "sharing/theta_norm", "", "actor", "layer_1")[1] == (200, 5, 2, 3)
    assert curve(three, "sharing/mu_norm", "", "actor", "layer_1")[1] == (200, 1, 0.5, 3)
    assert curve(three, "sharing/ratio_by_task")[0][1:3] == (pytest.approx(0.25), pytest.approx(0.1))
    # the IQM of 6 values leaves the lowest and the highest out: at 400 of 50, 90, 92, 95, 98, 100
    (last,) = numbers_of(three, metric="eval/return", task="", x="400")
    assert float(last["iqm"]) == (90 + 92 + 95 + 98) / 4
    assert 74 <= float(last["low"]) < float(last["iqm"]) < float(last["high"]) <= 97.5


def test_curves_over_wall_time_are_in_the_timings_alone(three, capsys, drawn):
    report(three, capsys)
    # a rollout takes 2.5 s; at 5 s up has its mean of (10 + 30) / 2 between two rollouts, as down at 7.5 s
    rows = [(float(r["x"]), float(r["value"])) for r in numbers_of(three, "timings.csv", metric="train/return")]
    assert rows[0] == (5.0, 50.0)
    assert rows[-1] == (10.0, 60.0)
    moved = numbers_of(three, "timings.csv", metric="kl/policy")  # 0.01 times the seed
    assert (moved[0]["x"], moved[-1]["x"]) == ("2.5", "10")
    assert all((float(r["value"]), float(r["std"])) == pytest.approx((0.02, 0.01)) for r in moved)
    assert [r["value"] for r in numbers_of(three, "timings.csv", metric="seconds")] == ["10", "10", "10"]
    assert [r["value"] for r in numbers_of(three, "timings.csv", metric="env_steps_per_second")] == ["40", "40", "40"]
    before = (three / "report" / "scores.csv").read_bytes()
    for beats in three.glob("seed_*/heartbeat.csv"):
        beats.write_text(re.sub(r"^(\d+,,,)([\d.]+)", r"\g<1>9\2", beats.read_text(), flags=re.MULTILINE))
    report(three, capsys)
    assert numbers_of(three, "timings.csv", metric="seconds")[0]["value"] == "910"
    assert (three / "report" / "scores.csv").read_bytes() == before


def test_the_table_and_the_scores_of_three_seeds(three, capsys, drawn):
    lines = report(three, capsys).splitlines()
    assert [re.split(r"  +", line) for line in lines[:6] if not line.startswith("-")] == [
        ["task", "varshare"],
        ["up", "95.0 ± 3.0"],
        ["down", "80.0 ± 26.5"],
        ["mean", "87.5 ± 12.1"],
    ]
    assert lines[6].endswith("Finished runs: varshare 3/3.")
    assert lines[7] == "MadeUp: no anchors, so its returns are not turned into scores"
    assert lines[8].startswith("few runs: the 95 % bootstrap interval of 3 runs covers the true IQM in 74 % of cases")
    assert lines[9:] == [str(three / "report" / name) for name in FILES]
    assert {path.name for path in (three / "report").iterdir()} == {*FILES, "figures"}
    assert figures_in(three) == FIGURES
    final = numbers_of(three, metric="final/return")
    assert [row["value"] for row in final if row["seed"] == "1"] == ["95", "100", "97.5"]
    mean = next(row for row in final if not row["seed"] and not row["task"])
    assert (mean["value"], mean["runs"]) == ("87.5", "3")
    assert float(mean["std"]) == pytest.approx(math.sqrt(147.25))
    assert [row["value"] for row in numbers_of(three, metric="steps_to_solve")] == ["200", "400", "inf"]
    (solved,) = numbers_of(three, metric="solved_runs")
    assert (solved["value"], solved["runs"]) == ("2", "3")
    (median,) = numbers_of(three, metric="steps_to_solve_median")
    assert (median["value"], median["low"], median["high"]) == ("400", "200", "inf")
    (worst,) = numbers_of(three, metric="worst_task/return")
    assert float(worst["value"]) == pytest.approx((95 + 90 + 50) / 3)
    # few evaluations, so the area is that of training: (10, 20) at 200, (30, 20) at 300, (40, 50) at 400 for seed 1
    area = next(row for row in numbers_of(three, metric="area_under_curve/return") if row["seed"] == "1")
    assert float(area["value"]) == (15 / 2 + 25 + 45 / 2) / 2
    page = (three / "report" / "report.md").read_text()
    assert "| varshare | 3/3 | 87.5 ± 12.1 |" in page
    assert "| 2/3 | 400 [200, not solved] |" in page
    assert "; covers 74 %] |" in page
    assert "\n- few runs: " in page


def test_the_protocol_is_on_the_page(three, capsys, drawn):
    report(three, capsys)
    lines = (three / "report" / "report.md").read_text().splitlines()
    stamp = dict(line.strip("| ").split(" | ", 1) for line in lines[lines.index("| --- | --- |") + 1 :][:9])
    assert stamp["suites"] == "MadeUp v3, 2 tasks"
    assert stamp["env steps"] == "400"
    assert stamp["evaluation"].endswith("final weights; 20 episodes a task")
    assert stamp["solved"] == "every task's mean return ≥ 90"
    assert stamp["seeds"] == "1, 2, 3"
    assert stamp["runs"] == "3: 3 finished, 0 failed, 0 unfinished, 0 not started"
    assert stamp["commit"] == "abc123"
    assert stamp["packages"] == "python 3.11, torch 2.6"


def test_one_seed_has_no_band(tmp_path, capsys, drawn):
    run = write_seed(tmp_path / "e", 7, [[1.0, 2.0], [3.0, 4.0]], final=[95.0, 85.0], total_env_steps=[200])
    lines = report(tmp_path / "e", capsys).splitlines()
    assert lines[2].split() == ["up", "95.0"]
    assert curve(tmp_path / "e", "train/return") == [(100, 1.5, None, 1), (200, 3.5, None, 1)]
    assert not any(panel.collections for panel in drawn["curves_MadeUp"].values())
    (row,) = numbers_of(tmp_path / "e", metric="final/return", seed="", task="")
    assert (row["std"], row["low"], row["high"], row["runs"]) == ("", "", "", "1")
    # the same of the run alone, in its own folder
    assert report(run, capsys).splitlines()[2].split() == ["up", "95.0"]
    assert rows_of(run / "report" / "scores.csv") == rows_of(tmp_path / "e" / "report" / "scores.csv")
    assert "# Report: e/seed_7" in (run / "report" / "report.md").read_text()


@pytest.mark.parametrize(("num_tasks", "panels"), [(1, 0), (3, 3), (30, 24)])
def test_tasks_have_panels_of_their_own(tmp_path, capsys, drawn, num_tasks, panels):
    for seed in (1, 2):
        write_seed(tmp_path / "e", seed, [[seed] * num_tasks, [2 * seed] * num_tasks], ratio=0.5 + 0.1 * seed)
    report(tmp_path / "e", capsys)
    assert len(drawn.get("tasks_MadeUp", {})) == panels
    (mean,) = (axes for title, axes in drawn["curves_MadeUp"].items() if "mean" in title)
    band = mean.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1.5 - math.sqrt(0.5), 3 + math.sqrt(2)))


def test_a_suite_that_cannot_be_solved(tmp_path, capsys, drawn):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]] * 4, final=[-5.0, 3.0], solved_return=None)
    report(tmp_path / "e", capsys)
    assert not numbers_of(tmp_path / "e", metric="steps_to_solve")
    assert "solved" not in (tmp_path / "e" / "report" / "report.md").read_text().replace("unsolved", "")


def test_the_page_needs_no_other_file(three, capsys):
    report(three, capsys)
    page = (three / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,iVBORw0KGgo") == len(SHEETS)  # as a PNG begins
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {link for link in links if not link.startswith(("data:", "#"))} == {f"figures/{name}.svg" for name in SHEETS}
    assert "http" not in re.sub(r'base64,[^"]*', "", page)
    assert all(f'id="{link[1:]}"' in page for link in links if link.startswith("#"))


def test_a_second_report_replaces_its_own_files_only(three, capsys, drawn):
    folder = three / "report"
    report(three, capsys)
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    mine = {folder / "notes.txt": b"mine", folder / "figures" / "layers_mine.png": b"mine"}
    for path, text in mine.items():
        path.write_bytes(text)
    (folder / "scores.csv").write_text("")
    report(three, capsys)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before | mine
    for details in three.glob("seed_*/diagnostics.csv"):
        details.unlink()
    report(three, capsys)
    kept = [name for name in FIGURES if "layers" not in name and "residuals" not in name]
    assert figures_in(three) == sorted([*kept, "layers_mine.png"])


@pytest.mark.parametrize("name", ["answer.png", "scores.csv"])
def test_a_file_is_replaced_whole_or_not_at_all(three, capsys, monkeypatch, request, name):
    if name == "scores.csv":
        request.getfixturevalue("drawn")
    report(three, capsys)
    before = {path: path.read_bytes() for path in (three / "report").rglob("*") if path.is_file()}
    replace = Path.replace

    def full_disk(part, target):
        assert part.stat().st_size > 0
        if target.name == name:
            raise OSError(28, "No space left on device", str(target))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", full_disk)
    assert "No space left on device" in report(three, capsys, code=1)
    assert {path: path.read_bytes() for path in (three / "report").rglob("*") if path.is_file()} == before


def test_help_beside_a_folder_helps_and_a_second_folder_is_refused(three, capsys):
    assert main(["report", str(three), "--help"]) == 0
    assert "usage: varshare report" in capsys.readouterr().out
    assert main(["report", str(three), "another"]) == 2
    assert "one folder at a time; another is one too many" in capsys.readouterr().err
    assert not (three / "report").exists()
