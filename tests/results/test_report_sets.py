"""Reports of sets that are half finished, or that are no set."""

import json
import math
import subprocess
import sys

import pytest
from seed_runs import TABLES, curve, report, rows_after, rows_of, write_seed, write_summary

from varshare_pl.cli.main import main


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
    assert "unfinished, not in the scores: seed_4 at 200 of 400 env steps; seed_5 at 0 of 400 env steps" in printed
    assert "solved: 2 of 3 seeds" in printed
    assert "seeds 1, 2, 3;" in printed
    *_, fourth, fifth = rows_of(three / "report" / "scores.csv")
    assert list(fourth.values()) == ["4", "seed_4", "unfinished", "200", "", "", "", "", "", "5"]
    assert list(fifth.values()) == ["5", "seed_5", "unfinished", "0", "", "", "", "", "", ""]

    title, axes, caption = drawn["returns"]
    assert title == "Returns: MadeUp, varshare, 4 seeds"
    assert "Thin: not all 4 runs" in caption
    assert "Unfinished: seed_4 (200 env steps)." in caption
    assert "Without a row, so not counted: seed_5." in caption
    # at 100 only the fourth has had an episode of both tasks, from 300 on it is not there
    first, full, last = axes["Training, mean over tasks"].lines[:3]
    assert [line.get_xdata().tolist() for line in (first, full, last)] == [[100], [200], [300, 400]]
    assert first.get_linewidth() == last.get_linewidth() < 0.5 * full.get_linewidth()


def test_nothing_is_finished_yet(tmp_path, capsys):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]])
    write_seed(tmp_path / "e", 2, [])
    printed = report(tmp_path / "e", capsys)
    assert printed.startswith("no finished run, so no final scores\nunfinished, not in the scores: seed_1 at 100 of")
    assert "protocol: MadeUp v3; varshare; seeds 1, 2\n" in printed
    (tmp_path / "e" / "seed_1" / "heartbeat.csv").unlink()
    printed = report(tmp_path / "e", capsys)
    assert "seed_1 at 0 of 400" in printed
    assert {path.name for path in (tmp_path / "e" / "report").iterdir()} == set(TABLES)  # the images had no rows left


def test_only_a_run_that_came_to_its_end_is_final(tmp_path, capsys):
    for seed in (1, 2, 3):
        write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * 2, final=[95.0, 96.0], total_env_steps=[200])
    write_summary(tmp_path / "e" / "seed_2", [5.0, 5.0], 200, finished=False)  # stopped by hand
    states = [row["state"] for row in rows_after(tmp_path / "e", capsys)]
    assert states == ["finished", "unfinished", "finished"]
    # the third is made longer: the first has not come so far
    identity = json.loads((tmp_path / "e" / "seed_3" / "run.json").read_text())
    (tmp_path / "e" / "seed_3" / "run.json").write_text(json.dumps(identity | {"total_env_steps": [200, 300]}))
    write_summary(tmp_path / "e" / "seed_3", [95.0, 96.0], 300, extended=True)
    assert [row["state"] for row in rows_after(tmp_path / "e", capsys)] == ["unfinished", "unfinished", "finished"]
    assert "extended after a shorter run: seed_3" in report(tmp_path / "e", capsys)


def test_runs_that_were_to_stop_when_solved_are_final(tmp_path, capsys):
    config = "evaluation:\n  every: 100\n  stop_when_solved: 3\n"
    for seed, rollouts in ((1, 2), (2, 3), (3, 3)):
        run = write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * rollouts, config=config)
        write_summary(run, [95.0, 96.0 if seed < 3 else 0.0], 100 * rollouts, finished=False)
    assert [row["state"] for row in rows_after(tmp_path / "e", capsys)] == ["finished", "finished", "unfinished"]
    assert "200 to 300 env steps" in report(tmp_path / "e", capsys)


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
    assert "seeds 1, 2" in report(tmp_path / "e", capsys)


def test_folders_without_runs(tmp_path, capsys):
    (tmp_path / "e" / "notes").mkdir(parents=True)
    assert "holds no run; give the folder of an experiment" in report(tmp_path / "e", capsys, code=2)
    assert "nowhere is not a folder" in report(tmp_path / "nowhere", capsys, code=2)
    run = write_seed(tmp_path / "e", 1, [[1.0, 2.0]])
    error = report(run, capsys, code=2)
    assert f"is the folder of one run; give the folder above it, {tmp_path / 'e'}, or" in error
    assert f"'varshare plot {run}'" in error


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("heartbeat.csv", "env_steps,sps\n1,2,3\n", "3 cells under 2 columns"),
        ("diagnostics.csv", "a,b\n", "does not have the columns"),
        ("summary.json", "{", "summary.json is not valid JSON"),
        ("run.json", "[]", "run.json does not hold a JSON object"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path, capsys, name, text, message):
    (write_seed(tmp_path / "e", 1, [[1.0, 2.0]]) / name).write_text(text)
    assert message in report(tmp_path / "e", capsys, code=2)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "report: the folder of an experiment is missing"),
        (["--foo"], 2, "--foo: unknown option; 'varshare report --help' lists all"),
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
