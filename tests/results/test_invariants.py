"""What holds of any set of runs: made-up folders of all sorts, and their numbers without the figures."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from seed_runs import SIZE, write_seed, write_summary

from varshare_pl.errors import ConfigError
from varshare_pl.results.analysis import analyse
from varshare_pl.results.numbers import score_rows, timing_rows
from varshare_pl.results.protocol import gaps
from varshare_pl.results.study import read_study

pytestmark = pytest.mark.usefixtures("drawn")

CONFIG = "evaluation:\n  every: 100\n  stop_when_solved: 1\n"
LENGTH = 6 * SIZE


def write_runs(folder, seed, shift=0.0, names=None):
    """Seeds of one experiment: some end once solved, one is not finished, returns have gaps, tasks differ."""
    rng = np.random.default_rng(seed)
    tasks, runs = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    level = (0.0, 0.1, 500.0, 1_000_003.0)[seed % 4]
    for i in range(1, runs + 1):
        kind = rng.choice(["whole", "solved", "unfinished"]) if i > 1 else "whole"
        rows = 6 if kind == "whole" else int(rng.integers(2, 6))
        values = level + (0.0 if seed % 5 == 0 else 1.0) * np.round(rng.normal(0, 20, (rows, tasks)), 3) + shift
        seen = rng.random((rows, tasks)) < 0.8
        train = [
            [float(v) if known else None for v, known in zip(*row, strict=True)]
            for row in zip(values, seen, strict=True)
        ]
        evals = {r: [float(v) for v in values[r]] for r in range(rows)}
        run = write_seed(folder, i, train, evals, config=CONFIG, solved_return=-1e12, total_env_steps=[LENGTH])
        if kind != "unfinished":
            final = [float(v) for v in values[-1]]
            write_summary(run, final, SIZE * rows, solved_return=-1e12, finished=kind == "whole")
        if names is not None:
            run.rename(folder / names[i])
    return folder


def numbers(folder):
    """The rows of scores and timings, and what is told, of the runs in a folder."""
    study = read_study(folder)
    analysis = analyse(study)
    return list(score_rows(analysis)), list(timing_rows(analysis)), gaps(study)


def told_alike(ours, theirs, by=0.0):
    """Whether two rows are the same, but that values of returns differ by so much."""
    for name in ours.keys() | theirs.keys():
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, str) or one is None or isinstance(other, str):
            assert one == other, (ours, theirs)
            continue
        shifted = by if "return" in str(ours["metric"]) and name in ("value", "iqm", "low", "high") else 0.0
        assert float(other) == pytest.approx(float(one) + shifted, rel=1e-9, abs=1e-6, nan_ok=True), (name, ours)


@pytest.mark.parametrize("seed", range(12))
def test_invariants(tmp_path, seed):
    scores, timings, told = numbers(write_runs(tmp_path / "a" / "e", seed))
    for row in scores + timings:
        low, high, centre = (float(row.get(name, math.nan)) for name in ("low", "high", "iqm"))
        centre = float(row["value"]) if math.isnan(centre) and "seed" not in row else centre
        assert math.isnan(low) == math.isnan(high), row
        assert math.isnan(low) or low <= centre <= high, row
        assert not float(row.get("std", math.nan)) < 0
        assert "runs" not in row or row["runs"] >= 1
    if seed % 5 == 0:  # all values are the same, so nothing spreads
        assert {float(row["std"]) for row in scores if "return" in row["metric"] and "std" in row} <= {0.0} | {
            row["std"] for row in scores if "std" in row and math.isnan(float(row["std"]))
        }
    # the names of the folders, and so the order in which they are found, change nothing
    renamed = [f"{chr(ord('z') - i)}_run" for i in range(10)]
    again = numbers(write_runs(tmp_path / "b" / "e", seed, names=renamed))
    assert list(map(repr, again[0])) == list(map(repr, scores))
    # a constant on all returns shifts what is a return by it, and no other number
    shifted = numbers(write_runs(tmp_path / "c" / "e", seed, shift=64.0))
    for ours, theirs in zip(scores + timings, shifted[0] + shifted[1], strict=True):
        told_alike(ours, theirs, by=64.0)
    assert shifted[2] == told
    # a folder twice is no further seed
    shutil.copytree(tmp_path / "a" / "e" / "seed_1", tmp_path / "a" / "e" / "copy")
    with pytest.raises(ConfigError, match="copy and seed_1 are both of seed 1"):
        read_study(tmp_path / "a" / "e")


def test_a_copy_of_a_run_of_unknown_seed_is_no_further_seed(tmp_path):
    for seed in (1, 2):
        (write_seed(tmp_path / "e", seed, [[1.0, 2.0]]) / "run.json").unlink()
    read_study(tmp_path / "e")
    shutil.copytree(tmp_path / "e" / "seed_1", tmp_path / "e" / "copy")
    with pytest.raises(ConfigError, match="copy and seed_1 hold the same rows; a run counts once"):
        read_study(tmp_path / "e")


def change_cells(run, change):
    """Write a run's heartbeat again, each row as a dict changed."""
    path = run / "heartbeat.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[-1]], "its env_steps do not rise"),
        (lambda rows: rows[::-1], "its env_steps do not rise"),
        (lambda rows: [{**rows[0], "env_steps": ""}], "its env_steps do not rise"),
        (lambda rows: [*rows[:1], {**rows[1], "env_steps": "inf"}], "its env_steps do not rise"),
        (lambda rows: [{**rows[0], "env_steps": "-5"}], "its env_steps do not rise"),
        (lambda rows: [*rows[:1], {**rows[1], "wall_time_s": "0.5"}], "its wall_time_s falls"),
        (lambda rows: [{**rows[0], "sps": "1,5"}], "could not convert string to float: '1,5'"),
        (lambda rows: [{**rows[0], "sps": "1_000"}], "could not convert string to float: '1_000'"),
        (lambda rows: [{**rows[0], "sps": "1 000"}], "could not convert string to float: '1 000'"),
    ],
)
def test_rows_that_would_give_wrong_numbers_are_refused(tmp_path, change, message):
    run = write_seed(tmp_path / "e", 1, [[1.0, 2.0], [3.0, 4.0]])
    change_cells(run, change)
    with pytest.raises(ConfigError, match=message) as caught:
        read_study(tmp_path / "e")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["100,kl/posterior,actor,head,0,1"] * 2, "kl/posterior at 100 env steps is there twice"),
        (["200,kl/posterior,actor,head,0,1", "100,kl/posterior,actor,head,0,1"], "its env_steps fall"),
        (["100,kl/posterior,actor,head,0,1_0"], "could not convert string to float: '1_0'"),
        (["99999999999999999999,kl/posterior,actor,head,0,1"], "too large"),
    ],
)
def test_details_that_would_count_twice_are_refused(tmp_path, lines, message):
    run = write_seed(tmp_path / "e", 1, [[1.0, 2.0], [3.0, 4.0]])
    (run / "diagnostics.csv").write_text("\n".join(["env_steps,metric,network,layer,task,value", *lines, ""]))
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "e")


def test_a_sum_that_lacks_a_layer_is_none(tmp_path):
    for seed in (1, 2):
        write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * 3, ratio=0.5)
    path = tmp_path / "e" / "seed_1" / "diagnostics.csv"
    path.write_text(path.read_text().replace("200,kl/posterior,critic,head,0,1\n", ""))
    scores, _, _ = numbers(tmp_path / "e")
    found = [row for row in scores if row["metric"] == "kl/posterior_by_task" and row["task"] == 0]
    assert [float(row["value"]) for row in found] == [6.0, 6.0, 6.0]  # 4 of seed 1 from before, 8 of seed 2


def test_a_missing_column_of_a_task_leaves_no_mean_over_the_others(tmp_path):
    run = write_seed(tmp_path / "e", 1, [[1.0, 2.0, 3.0]] * 2)
    change_cells(run, lambda rows: [{k: v for k, v in row.items() if k != "train/return_task_1"} for row in rows])
    found = [row for row in numbers(tmp_path / "e")[0] if row["metric"] == "train/return"]
    assert {(row["task"], float(row["value"])) for row in found} == {(0, 1.0), (2, 3.0)}


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"solved_return": 400.0}, "solved return is 90 in seed_1, 400 in seed_2"),
        (
            {"anchors": {"low": [0, 0], "high": [9, 9]}},
            "anchors is low 0, high 10, 20 in seed_1, low 0, high 9 in seed_2",
        ),
        ({"task_names": ["up, down", "x"]}, "tasks is up, down in seed_1, 'up, down', x in seed_2"),
    ],
)
def test_runs_of_other_rules_are_not_put_together(tmp_path, identity, message):
    anchors = {"low": [0, 0], "high": [10, 20]}
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]], anchors=anchors)
    write_seed(tmp_path / "e", 2, [[1.0, 2.0]], **({"anchors": anchors} | identity))
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "e")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "one"}, "run.json: not what a run was: ValueError"),
        ({"solved_return": [1]}, "run.json: not what a run was: TypeError"),
        ({"total_env_steps": 5}, "run.json: not what a run was: TypeError"),
        ({"suite_version": math.inf}, "run.json: not what a run was: OverflowError"),
        ({"anchors": {"low": [0.0]}}, "run.json: not what a run was: KeyError"),
        ({"anchors": {"low": [0.0], "high": [1.0, 2.0]}}, "run.json: not what a run was: ValueError"),
    ],
)
def test_a_spoilt_identity_is_told_in_one_line(tmp_path, changes, message):
    path = write_seed(tmp_path / "e", 1, [[1.0, 2.0]]) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "e")


@pytest.mark.parametrize("changes", [{"env_steps": math.inf}, {"solved": "yes"}, {"env_steps": -1}])
def test_a_spoilt_final_evaluation_is_told_in_one_line(tmp_path, changes):
    path = write_seed(tmp_path / "e", 1, [[1.0, 2.0]], final=[1.0, 2.0]) / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"final": summary["final"] | changes}))
    with pytest.raises(ConfigError, match="its final evaluation is not one"):
        read_study(tmp_path / "e")


def test_a_heartbeat_that_ends_before_the_final_evaluation_is_told(tmp_path):
    run = write_seed(tmp_path / "e", 1, [[1.0, 2.0]] * 4, final=[1.0, 2.0])
    change_cells(run, lambda rows: rows[:2])
    told = numbers(tmp_path / "e")[2]
    assert told[0] == "heartbeat.csv ends before the final evaluation: e: seed_1 at 200 of 400"
    assert not any("counted on" in line for line in told)


def test_a_run_whose_options_are_not_known_is_told(tmp_path):
    for seed in (1, 2):
        write_seed(tmp_path / "e", seed, [[1.0, 2.0]], config=CONFIG)
    assert not any("config" in line for line in numbers(tmp_path / "e")[2])
    (tmp_path / "e" / "seed_2" / "config.yaml").unlink()
    assert "no config.yaml, so its options were not compared: e: seed_2" in numbers(tmp_path / "e")[2]


def test_runs_that_never_solved_are_in_the_median(tmp_path):
    for seed, solved_at in ((1, 100), (2, None), (3, None), (4, 200), (5, None)):
        run = write_seed(tmp_path / "e", seed, [[1.0, 2.0]] * 4)
        write_summary(run, [95.0, 95.0] if solved_at else [1.0, 2.0], 400, solved_at=solved_at)
    found = {row["metric"]: row for row in numbers(tmp_path / "e")[0] if "seed" not in row}
    assert found["steps_to_solve_median"]["value"] == math.inf
    assert found["steps_to_solve_median"]["high"] == math.inf
    assert (found["solved_runs"]["value"], found["solved_runs"]["runs"]) == (2, 5)
