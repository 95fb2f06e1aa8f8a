"""Runs that end once they solved: their last values are carried on, so that no mean is of the others alone."""

import json

import pytest
from seed_runs import SIZE, curve, numbers_of, report, write_seed, write_summary

pytestmark = pytest.mark.usefixtures("drawn")

CONFIG = "evaluation:\n  every: 100\n  stop_when_solved: 1\n"
LENGTH = 8 * SIZE


def write_solving(experiment, seed, solved_after, rollouts=8, config=CONFIG, **identity):
    """A run whose evaluations give 10 a rollout until it solves with 100; it ends there, or goes on unsolved."""
    done = solved_after or rollouts
    levels = [100.0 if i == solved_after else 10.0 * i for i in range(1, done + 1)]
    evals = {i: [level, level] for i, level in enumerate(levels)}
    identity = {"total_env_steps": [LENGTH], **identity}
    run = write_seed(experiment, seed, [[level, level] for level in levels], evals, config=config, **identity)
    solved_at = SIZE * solved_after if solved_after else None
    whole = done * SIZE >= LENGTH
    write_summary(run, [levels[-1]] * 2, SIZE * done, solved_at=solved_at, finished=whole)
    return run


@pytest.fixture
def stopped(tmp_path):
    """Solved after 3 and 6 rollouts of 8, and never."""
    for seed, solved_after in ((1, 3), (2, 6), (3, None)):
        write_solving(tmp_path / "e", seed, solved_after)
    return tmp_path / "e"


def areas(folder):
    rows = numbers_of(folder, metric="area_under_curve/return")
    return {row["seed"]: float(row["value"]) for row in rows if row["seed"]}


def test_who_solves_sooner_has_the_larger_area(stopped, capsys):
    report(stopped, capsys)
    # from 100 to 800 env steps, by trapezoids: 10, 20, 100, … 100; 10, … 50, 100, 100, 100; 10, … 80
    assert areas(stopped) == pytest.approx({"1": (15 + 60 + 500) / 7, "2": (15 + 25 + 35 + 45 + 75 + 200) / 7, "3": 45})
    states = {row["seed"]: row["value"] for row in numbers_of(stopped, metric="state")}
    assert set(states.values()) == {"finished"}


def test_a_mean_is_of_all_runs_up_to_the_length_of_the_study(stopped, capsys):
    report(stopped, capsys)
    for metric in ("eval/return", "train/return"):
        for task in ("", "1"):
            found = curve(stopped, metric, task)
            assert [runs for *_, runs in found] == [3] * 8
            means = [round(mean, 6) for _, mean, _, _ in found]
            assert means == sorted(means)
            assert found[-1][:2] == (LENGTH, pytest.approx((100 + 100 + 80) / 3))
    assert {runs for *_, runs in curve(stopped, "kl/policy")} == {3}
    last = numbers_of(stopped, metric="eval/return", task="", x=str(LENGTH))[0]
    assert float(last["low"]) <= float(last["iqm"]) <= float(last["high"])


def test_runs_that_all_solved_are_carried_to_the_length(tmp_path, capsys):
    for seed, solved_after in ((1, 3), (2, 6)):
        write_solving(tmp_path / "e", seed, solved_after)
    report(tmp_path / "e", capsys)
    assert curve(tmp_path / "e", "eval/return")[-1] == (LENGTH, 100, 0, 2)
    seconds = numbers_of(tmp_path / "e", "timings.csv", metric="eval/return")
    assert {row["runs"] for row in seconds} == {"2"}
    assert float(seconds[-1]["x"]) == 2.5 * 6  # where the slower one ends, and not beyond
    assert float(seconds[-1]["value"]) == 100


def test_over_wall_time_the_others_are_not_left_alone(stopped, capsys):
    report(stopped, capsys)
    rows = numbers_of(stopped, "timings.csv", metric="eval/return")
    assert {row["runs"] for row in rows} == {"3"}
    assert float(rows[-1]["x"]) == 2.5 * 8
    assert float(rows[-1]["value"]) == pytest.approx((100 + 100 + 80) / 3)
    assert {row["runs"] for row in numbers_of(stopped, "timings.csv", metric="kl/policy")} == {"3"}


def test_what_was_carried_is_told(stopped, capsys):
    printed = report(stopped, capsys)
    told = "ended once solved, counted on with their last values to 800 env steps: e: seed_1 at 300, seed_2 at 600"
    assert told in printed.splitlines()
    page = (stopped / "report" / "report.md").read_text()
    assert told in page
    assert "A run that ended once solved counts on with its last values." in page


def test_a_run_that_failed_or_is_not_finished_is_not_carried_but_told(stopped, capsys):
    write_seed(stopped, 4, [[10.0, 10.0]] * 2, {0: [10.0, 10.0], 1: [100.0, 100.0]}, config=CONFIG)
    printed = report(stopped, capsys)
    assert [runs for *_, runs in curve(stopped, "eval/return")] == [4, 4, 3, 3, 3, 3, 3, 3]
    assert "curves of e are of fewer runs from where these end: seed_4 at 200" in printed.splitlines()
    assert set(areas(stopped)) == {"1", "2", "3"}


def test_stopping_is_no_other_budget(tmp_path, capsys):
    rows = [{"name": name, "suite": "made up", "method": name} for name in ("ours", "theirs")]
    plan = {"name": "s", "variants": rows, "seeds": [1, 2], "env_steps": LENGTH}
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.json").write_text(json.dumps(plan))
    for name, rest in (("ours", (3, 6)), ("theirs", (None, None))):
        for seed, solved_after in enumerate(rest, 1):
            write_solving(tmp_path / "s" / name, seed, solved_after, method=name)
    printed = report(tmp_path / "s", capsys)
    assert "not the same for all methods" not in printed
    found = {row["method"]: row for row in numbers_of(tmp_path / "s", metric="area_under_curve/return", seed="")}
    assert float(found["ours"]["value"]) > float(found["theirs"]["value"])
    reach = numbers_of(tmp_path / "s", metric="eval/return", task="", x=str(LENGTH))
    assert {row["method"]: row["value"] for row in reach} == {"ours": "100", "theirs": "80"}


def test_other_rules_of_evaluation_are_told(tmp_path, capsys):
    for name, config in (("ours", CONFIG), ("theirs", "evaluation:\n  every: 200\n  stop_when_solved: null\n")):
        for seed in (1, 2):
            write_solving(tmp_path / "s" / name, seed, None, method=name, config=config)
    lines = report(tmp_path / "s", capsys).splitlines()
    assert "MadeUp: evaluation.every is not the same for all methods: 100 (ours), 200 (theirs)" in lines
    assert "MadeUp: evaluation.stop_when_solved is not the same for all methods: 1 (ours), null (theirs)" in lines
