"""Two processes do the work of one: the same data, the same statistics, one set of weights, one end.

All runs of two processes share one pair of them, see ``scenarios.py``; the runs of one process are made here.
"""

import csv
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import scenarios
import torch
from helpers import METHODS
from scenarios import AVERAGED, COMBINED, ROLLOUT_FIELDS, SCENARIOS

TIMEOUT = 150
GLOBAL = {"episodes", "train/return_mean", "loss/value", "kl/policy", "diagnostics/clip_fraction"}
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


class Runs:
    """The results of a scenario: of one process, and of both of two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._one: dict[str, Any] = {}

    def one(self, name: str) -> dict[str, Any]:
        if name not in self._one:
            self._one[name] = SCENARIOS[name](1, self.folder)
        return self._one[name]

    def two(self, name: str) -> list[dict[str, Any]]:
        return [torch.load(self.folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("parallel"))
    runs.one("recorded")  # leaves a checkpoint that two processes go on from
    command = [sys.executable, scenarios.__file__, str(runs.folder), *SCENARIOS]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs


def whole(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A rollout of all envs from those of the processes."""
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in ROLLOUT_FIELDS}


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name].nan_to_num(-1.0), value.nan_to_num(-1.0)), name


def assert_close(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(actual[name], value, rtol=0.0, atol=1e-6, equal_nan=True), name


def differences(actual: dict[str, float], expected: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Metrics that differ by more than rounding; times aside. The first policy loss is 0 but for rounding."""
    assert actual.keys() == expected.keys()
    return {
        name: (actual[name], value)
        for name, value in expected.items()
        if name not in ("wall_time_s", "sps") and not math.isclose(actual[name], value, rel_tol=1e-5, abs_tol=1e-6)
    }


@pytest.mark.parametrize("name", [*(f"first_update_{method}" for method in METHODS), "stored"])
def test_the_first_rollout_is_the_same_data(runs: Runs, name: str) -> None:
    one, two = runs.one(name), runs.two(name)
    rollout = one["rollouts"][0]
    assert rollout["terminated"].any()
    split = whole([rank["rollouts"][0] for rank in two])
    # Logits of a batch half as long may round differently; what the envs and actions are must not.
    torch.testing.assert_close(split.pop("dist_params"), rollout["dist_params"], rtol=0.0, atol=1e-6)
    assert_same(split, {name: value for name, value in rollout.items() if name != "dist_params"})


CONTINUOUS = [name for name in SCENARIOS if name.startswith("continuous_")]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_actions_are_the_same(runs: Runs, name: str) -> None:
    one, two = runs.one(name), runs.two(name)
    split = whole([rank["rollouts"][0] for rank in two])
    for field, value in one["rollouts"][0].items():
        torch.testing.assert_close(split[field], value, rtol=0.0, atol=1e-4)  # envs follow the actions' last digits
    metrics = {metric for metric, *_ in one["records"][0][1]}
    assert {"diagnostics/action_std", "kl/update"} <= metrics


@pytest.mark.parametrize("name", [*(f"first_update_{method}" for method in METHODS), "stored", *CONTINUOUS])
def test_one_update_gives_the_weights_and_metrics_of_one_process(runs: Runs, name: str) -> None:
    """On one full-batch minibatch. VarShare without the critic's local noise, which differs between processes."""
    one, two = runs.one(name), runs.two(name)
    assert one["error"] == ""
    for rank in two:
        assert_close(rank["weights"][0], one["weights"][0])
        metrics, details = rank["records"][0]
        expected, expected_details = one["records"][0]
        assert metrics.keys() >= GLOBAL
        assert not differences(metrics, expected)
        assert len(details) == len(expected_details)
        named = {str(row[:1] + row[2:]): row[1] for row in details}
        assert not differences(named, {str(row[:1] + row[2:]): row[1] for row in expected_details})


@pytest.mark.parametrize("name", [*(f"combined_{name}" for name in COMBINED), "ragged_combined"])
def test_tasks_gradients_are_combined_over_processes(runs: Runs, name: str) -> None:
    """And their cosines. ragged_combined: processes hold different tasks."""
    one, two = runs.one(name), runs.two(name)
    assert one["error"] == ""
    metrics, details = one["records"][0]
    cosines = {row[:1] + row[2:]: row[1] for row in details if row[0].startswith("gradients/cosine")}
    assert len(cosines) >= 2 * 10
    for rank in two:
        assert_close(rank["weights"][0], one["weights"][0])
        assert rank["records"][0][0]["gradients/cosine"] == pytest.approx(metrics["gradients/cosine"], abs=1e-4)
        found = {row[:1] + row[2:]: row[1] for row in rank["records"][0][1] if row[0].startswith("gradients/cosine")}
        assert found == pytest.approx(cosines, abs=1e-4, nan_ok=True)
    for weights, others in zip(two[0]["weights"], two[1]["weights"], strict=True):
        assert_same(weights, others)
    others = [runs.one(f"combined_{other}")["weights"][0] for other in COMBINED if f"combined_{other}" != name]
    for other in others if name.startswith("combined_") else ():
        assert not all(torch.equal(other[key], value) for key, value in one["weights"][0].items())


def test_noise_of_the_critics_weights_is_the_same_on_all_processes(runs: Runs) -> None:
    one, two = runs.one("weight_noise"), runs.two("weight_noise")
    for rank in two:
        assert_close(rank["weights"][0], one["weights"][0])
    name = "policy.critic.stack.head.theta"
    assert not torch.equal(one["weights"][0][name], runs.one("first_update_varshare")["weights"][0][name])


def test_averages_are_taken_in_place(runs: Runs) -> None:
    alone, both = SCENARIOS["averages"](1, runs.folder), runs.two("averages")
    for name, make in AVERAGED.items():
        for way in (name, f"{name} over gloo"):
            value, in_place = alone[way]
            assert in_place
            assert torch.equal(value, make(0))  # of one process
            for rank in both:
                value, in_place = rank[way]
                assert in_place
                assert torch.equal(value, (make(0) + make(1)) / 2), way


def test_processes_hold_the_same_weights_bit_by_bit(runs: Runs) -> None:
    for name in ("long", "ragged_varshare"):
        first, second = runs.two(name)
        assert first["error"] == ""
        assert first["gradient_steps"] >= 20
        assert not torch.equal(first["rollouts"][-1]["obs"], second["rollouts"][-1]["obs"])
        for weights, others in zip(first["weights"], second["weights"], strict=True):
            assert any(name.startswith("episodes.") for name in weights)  # buffers too
            assert_same(weights, others)
        for (metrics, details), (others, other_details) in zip(first["records"], second["records"], strict=True):
            for name in metrics.keys() - {"wall_time_s", "sps"}:
                assert metrics[name] == others[name], name
            assert str(details) == str(other_details)


def test_the_board_and_gloo_give_the_same_bits(runs: Runs) -> None:
    """Of two numbers there is one sum."""
    for board, gloo in zip(runs.two("long"), runs.two("without_board"), strict=True):
        assert_same(board["weights"][-1], gloo["weights"][-1])
        assert gloo["exchanges"] == 0
        if sys.platform == "linux" and platform.machine() == "x86_64":
            assert board["exchanges"] > board["gradient_steps"]  # gradients too


def test_processes_may_hold_different_tasks(runs: Runs) -> None:
    one, two = runs.one("ragged"), runs.two("ragged")
    tasks = [set(rank["rollouts"][0]["task"].flatten().tolist()) for rank in two]
    assert tasks[0] != tasks[1]
    for rank in two:
        assert_close(rank["weights"][0], one["weights"][0])
        assert not differences(rank["records"][0][0], one["records"][0][0])


def test_envs_may_be_in_workers_of_their_own(runs: Runs) -> None:
    for before, workers in zip(runs.two("ragged"), runs.two("ragged_workers"), strict=True):
        assert workers["error"] == ""
        assert_same(workers["weights"][-1], before["weights"][-1])


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_moments_are_those_of_the_rows_of_all_processes(runs: Runs, scope: str) -> None:
    one, two = runs.one(f"normalised_{scope}"), runs.two(f"normalised_{scope}")
    assert one["error"] == ""
    for number, expected in enumerate(one["weights"]):
        counts = expected["policy.return_moments.count"]
        assert counts.sum() == 96 * (number + 1)
        assert_same(two[1]["weights"][number], two[0]["weights"][number])
        for name, value in two[0]["weights"][number].items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, equal_nan=True, msg=name)
    tasks = [set(rank["rollouts"][0]["task"].flatten().tolist()) for rank in two]
    assert tasks[0] != tasks[1]


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_discounted_returns_are_resumed_in_the_order_of_envs(runs: Runs, scope: str) -> None:
    name = f"normalised_{scope}"
    one, two = (
        torch.load(runs.folder / f"{name}_{processes}" / "checkpoints" / "previous.ckpt", weights_only=True)
        for processes in (1, 2)
    )
    saved = two["varshare"]["discounted_returns"]
    assert saved == one["varshare"]["discounted_returns"]
    assert len(set(saved)) == len(saved) == 4
    for before, after in zip(runs.two(name), runs.two(f"{name}_resumed"), strict=True):
        assert_same(after["weights"][-1], before["weights"][-1])


def test_target_kl_stops_all_processes_at_the_same_step(runs: Runs) -> None:
    one, two = runs.one("target_kl"), runs.two("target_kl")
    assert one["records"][0][0]["diagnostics/stopped_early"] == 1.0
    assert 1 < one["gradient_steps"] < 20
    assert [rank["gradient_steps"] for rank in two] == [one["gradient_steps"]] * 2


def test_a_gradient_that_is_not_finite_on_one_process_stops_all(runs: Runs) -> None:
    one, two = runs.one("poisoned"), runs.two("poisoned")
    assert one["error"].startswith(
        "NonFiniteError: the gradient of the actor is not finite in rollout 1, gradient step 0"
    )
    first, second = (rank["error"] for rank in two)
    assert first == second
    assert first.partition(";")[0] == one["error"].partition(";")[0]  # the minibatches hold other rows


def test_an_env_that_fails_on_one_process_stops_all(runs: Runs) -> None:
    assert [run["error"] for run in [runs.one("env_fault"), *runs.two("env_fault")]] == ["EnvError: env 3 raised"] * 3


def test_envs_that_cannot_be_split_evenly(runs: Runs) -> None:
    assert runs.one("uneven")["error"] == ""
    expected = "ConfigError: data.num_envs: 6 is not allowed with 2 processes; a multiple of 4 is"
    assert [rank["error"] for rank in runs.two("uneven")] == [expected] * 2


def test_a_signal_to_one_process_stops_all_after_the_same_rollout(runs: Runs) -> None:
    two = runs.two("signalled")
    assert [rank["indices"] for rank in two] == [[0, 1]] * 2
    assert all(rank["agreed"] for rank in two)
    checkpoint = torch.load(runs.folder / "signalled_2" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["RolloutDataModule"]["envs"]) == 4
    assert_same(checkpoint["state_dict"], two[0]["weights"][-1])


def test_files_are_written_once(runs: Runs) -> None:
    folder = runs.folder / "recorded_2"
    with (folder / "heartbeat.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [int(row["env_steps"]) for row in rows] == [128, 256, 384, 512]
    assert all(row["eval/return_mean"] for row in rows)
    lines = (folder / "diagnostics.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
        "second.ckpt",
    ]


def test_two_processes_go_on_bit_by_bit(runs: Runs) -> None:
    for before, after in zip(runs.two("recorded"), runs.two("resumed_from_2"), strict=True):
        assert after["indices"] == [2, 3]
        for name in ("rollouts", "weights"):
            for resumed, never_stopped in zip(after[name], before[name][2:], strict=True):
                assert_same(resumed, never_stopped)


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.filterwarnings("ignore:resume is not exact:UserWarning")
def test_a_run_goes_on_with_another_number_of_processes(runs: Runs, before: int) -> None:
    """With the same data; weights round differently from the next update on."""
    one, two = runs.one("recorded"), runs.two("recorded")
    expected = [one["rollouts"][2]] if before == 1 else [whole([rank["rollouts"][2] for rank in two])]
    after = runs.two("resumed_from_1") if before == 1 else [runs.one("resumed_from_2")]
    assert all(rank["indices"] == [2, 3] for rank in after)
    split = whole([rank["rollouts"][0] for rank in after])
    for name in ("obs", "task", "actions", "rewards", "terminated", "truncated", "final_obs"):
        assert torch.equal(split[name], expected[0][name]), name
