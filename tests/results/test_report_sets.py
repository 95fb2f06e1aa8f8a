"""Reports of sets that are half finished, or that are no set."""

import json
import math
import subprocess
import sys

import pytest
from seed_runs import curve, numbers_of, report, states_after, write_seed, write_summary

from varshare_pl.cli.main import main

pytestmark = pytest.mark.usefixtures("drawn")


def test_a_half_finished_set(three, capsys, drawn):
    torn = "300,1,2"  # killed in the middle of a line
    write_seed(three, 4, [[100.0, 100.0], [100.0, 200.0]], {1: [999.0, 999.0]}, ratio=0.4, torn=torn)
    empty = write_seed(three, 5, [])
    (empty / "heartbeat.csv").write_text("")
    (empty / "diagnostics.csv").unlink()
    printed = report(three, capsys)
    assert curve(three, "train/return", "0") == [
        (100, 55, pytest.approx(38.7298335), 4),
        (200, 55, pytest.approx(38.7298335), 4),
        (300, 60, 30, 3),
        (400, 70, 30, 3),
    ]
    assert curve(three, "eval/return", "1")[1] == (400, 80, pytest.approx(math.sqrt(700)), 3)
    assert [runs for *_, runs in curve(three, "sharing/ratio", "", "actor", "head")] == [4, 4, 3, 3]
    behind = "seed_4 at 200 of 400 env steps, seed_5 at 0 of 400 env steps"
    assert f"unfinished, not in the scores: made_up: {behind}" in printed
    assert "Finished runs: varshare 3/5." in printed
    states = {row["seed"]: (row["value"], row["x"]) for row in numbers_of(three, metric="state")}
    assert states["3"] == ("finished", "400")
    assert (states["4"], states["5"]) == (("unfinished", "200"), ("unfinished", "0"))
    assert {row["seed"] for row in numbers_of(three, metric="final/return")} == {"1", "2", "3", ""}
    # at 100 only the fourth has had an episode of both tasks, from 300 on it is not there
    (axes,) = (axes for title, axes in drawn["curves_MadeUp"].items() if "mean" in title)
    first, full, last = axes.lines[:3]
    assert [line.get_xdata().tolist() for line in (first, full, last)] == [[100], [200], [300, 400]]
    assert first.get_linewidth() == last.get_linewidth() < 0.5 * full.get_linewidth()


def test_nothing_is_finished_yet(tmp_path, capsys):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]])
    write_seed(tmp_path / "e", 2, [])
    printed = report(tmp_path / "e", capsys)
    assert printed.startswith("no finished run, so no final scores\nunfinished, not in the scores: e: seed_1 at 100 of")
    assert "| varshare | 0/2 | – |" in (tmp_path / "e" / "report" / "report.md").read_text()
    (tmp_path / "e" / "seed_1" / "heartbeat.csv").unlink()
    printed = report(tmp_path / "e", capsys)
    assert "seed_1 at 0 of 400" in printed
    assert not list((tmp_path / "e" / "report" / "figures").iterdir())  # the images had no rows left


def test_only_a_run_that_came_to_its_end_is_final(tmp_path, capsys):
    for seed in (1, 2, 3):
        write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * 2, final=[95.0, 96.0], total_env_steps=[200])
    write_summary(tmp_path / "e" / "seed_2", [5.0, 5.0], 200, finished=False)  # stopped by hand
    assert states_after(tmp_path / "e", capsys) == {"1": "finished", "2": "unfinished", "3": "finished"}
    # the third is made longer: the first has not come so far
    identity = json.loads((tmp_path / "e" / "seed_3" / "run.json").read_text())
    (tmp_path / "e" / "seed_3" / "run.json").write_text(json.dumps(identity | {"total_env_steps": [200, 300]}))
    write_summary(tmp_path / "e" / "seed_3", [95.0, 96.0], 300, extended=True)
    assert states_after(tmp_path / "e", capsys) == {"1": "unfinished", "2": "unfinished", "3": "finished"}
    assert "extended after a shorter run: e: seed_3" in report(tmp_path / "e", capsys)


def test_runs_that_were_to_stop_when_solved_are_final(tmp_path, capsys):
    config = "evaluation:\n  every: 100\n  stop_when_solved: 3\n"
    for seed, rollouts in ((1, 2), (2, 3), (3, 3)):
        run = write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * rollouts, config=config)
        write_summary(run, [95.0, 96.0 if seed < 3 else 0.0], 100 * rollouts, finished=False)
    assert states_after(tmp_path / "e", capsys) == {"1": "finished", "2": "finished", "3": "unfinished"}
    page = (tmp_path / "e" / "report" / "report.md").read_text()
    assert "| env steps | 200 \\| 300 |" in page
    assert "during training every 100 env steps" in page


MODEL = "model:\n  sharing:\n    class_path: A\n    init_args:\n      scale: {}\n  hidden_sizes:\n  - 64\n  - {}\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "Other"}, "suite is MadeUp in seed_1, Other in seed_2"),
        ({"suite_version": 4}, "suite version is 3 in seed_1, 4 in seed_2"),
        ({"method": "shared"}, "method is varshare in seed_1, shared in seed_2"),
        ({"task_names": ["up", "left"]}, "tasks is up, down in seed_1, up, left in seed_2"),
        ({"config": MODEL.format(0.2, 64)}, "model.sharing.init_args.scale is 0.1 in seed_1, 0.2 in seed_2"),
        ({"config": MODEL.format(0.1, 32)}, "model.hidden_sizes is 64 64 in seed_1, 64 32 in seed_2"),
        ({"identity_seed": 1}, "seed_1 and seed_2 are both of seed 1"),
    ],
)
def test_runs_that_are_not_seeds_of_one_experiment(tmp_path, capsys, changes, message):
    config = changes.pop("config", MODEL.format(0.1, 64))
    seed = changes.pop("identity_seed", 2)
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]], config=MODEL.format(0.1, 64))
    write_seed(tmp_path / "e", 2, [[1.0, 2.0]], config=config, **changes)
    path = tmp_path / "e" / "seed_2" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": seed}))
    error = report(tmp_path / "e", capsys, code=2)
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "e" / "report").exists()


TWO_METHODS = "model:\n  sharing:\n    class_path: {}\n    init_args:{}\n  gamma: {}\n"


@pytest.mark.parametrize(("gamma", "more"), [(0.9, ""), (0.8, "; model.gamma is 0.9 in seed_1, 0.8 in seed_2")])
def test_runs_of_two_methods_are_told_by_the_method_alone(tmp_path, capsys, gamma, more):
    with_options = TWO_METHODS.format("a.VarShare", "\n      prior_scale: 0.1\n      initial_sigma: 0.5", 0.9)
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]], config=with_options)
    without = TWO_METHODS.format("a.Shared", " {}", gamma)
    write_seed(tmp_path / "e", 2, [[1.0, 2.0]], config=without, method="shared")
    error = report(tmp_path / "e", capsys, code=2)
    assert error.endswith(f"in more than the seed: method is varshare in seed_1, shared in seed_2{more}\n")


def test_a_section_that_one_run_leaves_empty_is_told_in_words(tmp_path, capsys):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]], config=TWO_METHODS.format("a.A", "\n      scale: 1", 0.9))
    write_seed(tmp_path / "e", 2, [[1.0, 2.0]], config=TWO_METHODS.format("a.A", " {}", 0.9))
    error = report(tmp_path / "e", capsys, code=2)
    assert error.endswith("the seed: model.sharing.init_args is given in seed_1, empty in seed_2\n")


def test_runs_of_other_rollout_sizes(tmp_path, capsys):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0], [1.0, 2.0]])
    other = write_seed(tmp_path / "e", 2, [[1.0, 2.0], [1.0, 2.0]]) / "heartbeat.csv"
    other.write_text(other.read_text().replace("\n200,", "\n150,").replace("\n100,", "\n75,"))
    error = report(tmp_path / "e", capsys, code=2)
    assert "rollout size is 100 env steps in seed_1, 75 env steps in seed_2" in error


def test_many_differences_and_runs_stay_in_one_line(tmp_path, capsys):
    for seed in range(1, 9):
        others = {"suite": "Other", "suite_version": 0, "method": "shared", "task_names": ["a", "b"]}
        write_seed(tmp_path / "e", seed, [[1.0, 2.0]], **(others if seed > 5 else {}))
    error = report(tmp_path / "e", capsys, code=2)
    assert "suite is MadeUp in seed_1, seed_2, seed_3 and 2 more, Other in seed_6, seed_7, seed_8;" in error
    assert error.endswith("; and 1 more\n")


def test_what_does_not_change_the_experiment_may_differ(tmp_path, capsys):
    config = "seed_everything: {0}\ndata:\n  total_env_steps: {0}00\n  backend: {1}\nmodel:\n  gamma: 0.9\n{2}"
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]], config=config.format(1, "sync", ""))
    # an option that came with a later version is not compared
    write_seed(tmp_path / "e", 2, [[1.0, 2.0]], config=config.format(2, "async", "  newer: 1\n"))
    assert states_after(tmp_path / "e", capsys) == {"1": "unfinished", "2": "unfinished"}


def test_folders_without_runs(tmp_path, capsys):
    (tmp_path / "e" / "notes").mkdir(parents=True)
    assert "holds no run; give the folder of a study, of experiments, of one or of a run" in report(
        tmp_path / "e", capsys, code=2
    )
    assert "nowhere is not a folder" in report(tmp_path / "nowhere", capsys, code=2)
    assert not (tmp_path / "e" / "report").exists()


FINAL = '{{"final": {{"env_steps": 4, "episodes_per_task": 1, "solved": null, "return_per_task": {}}}}}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("heartbeat.csv", "env_steps,sps\n1,2,3\n", "3 cells under 2 columns"),
        ("diagnostics.csv", "a,b\n", "does not have the columns"),
        ("summary.json", "{", "summary.json is not valid JSON"),
        ("run.json", "[]", "run.json does not hold a JSON object"),
        ("heartbeat.csv", "env_steps,sps\n2,3\n2,3\n", "its env_steps do not rise"),
        ("heartbeat.csv", b"env_steps,sps\n2,\xff\xfe\n", "could not convert string to float"),
        ("summary.json", '{"final": {"env_steps": 4}}', "its final evaluation is not one: KeyError: 'return_per_task'"),
        ("summary.json", FINAL.format("[1.0]"), "final.return_per_task is [1.0]; 2 finite numbers are allowed"),
        ("summary.json", FINAL.format("[1.0, NaN]"), "final.return_per_task is [1.0, nan]; 2 finite numbers"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path, capsys, name, text, message):
    spoilt = write_seed(tmp_path / "e", 1, [[1.0, 2.0]]) / name
    spoilt.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in report(tmp_path / "e", capsys, code=2)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "report: the folder of a study, an experiment or a run is missing"),
        (["--foo"], 2, "report: unrecognized arguments: --foo; 'varshare report --help' lists all"),
        (["a", "b"], 2, "report: one folder at a time; b is one too many"),
        (["--help"], 0, "standard deviation (n - 1)"),
    ],
)
def test_the_arguments_of_the_command(capsys, args, code, words):
    assert main(["report", *args]) == code
    printed = capsys.readouterr()
    assert words in " ".join((printed.err or printed.out).split())


def test_a_report_needs_neither_torch_nor_lightning(tmp_path):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]])
    code = f"import sys; from varshare_pl.cli.main import main; main(['report', {str(tmp_path / 'e')!r}]); "
    code += "print({'torch', 'lightning', 'pandas', 'yaml', 'matplotlib.pyplot'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
