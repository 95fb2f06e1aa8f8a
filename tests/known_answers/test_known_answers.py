"""Learning with a known answer: sharing where tasks agree, specialising where they must, where a shared net fails.

Each run is the shipped config from the command line, 300k env steps or fewer, at three fixed seeds.
"""

from pathlib import Path

import pytest
from helpers import PLAIN_ARGS
from known_runs import train

pytestmark = pytest.mark.slow
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_complex_cartpole_is_solved(tmp_path: Path, seed: int) -> None:
    summary, _ = train(tmp_path, seed, "--config", "complex_cartpole", every=30_000)
    assert summary["final"]["solved"]
    assert summary["final"]["episodes_per_task"] == 20
    assert summary["steps_to_solve"] <= 300_000


@pytest.mark.parametrize("seed", SEEDS)
def test_identical_tasks_share_every_layer(tmp_path: Path, seed: int) -> None:
    summary, energy = train(tmp_path, seed, "--config", "identical_cartpole")
    assert summary["final"]["solved"]
    assert set(energy) == {"layer_1", "layer_2", "head"}
    assert min(energy.values()) >= 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_kl_identical_tasks_drift_apart(tmp_path: Path, seed: int) -> None:
    _, energy = train(tmp_path, seed, "--config", "identical_cartpole", "--model.kl_weight", "0")
    assert energy["head"] < 0.96


@pytest.mark.parametrize("seed", SEEDS)
def test_mirrored_tasks_specialise_in_the_head(tmp_path: Path, seed: int) -> None:
    summary, energy = train(tmp_path, seed, "--config", "mirrored_cartpole")
    assert summary["final"]["solved"]
    assert energy["head"] <= 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shared_net_does_not_solve_mirrored_tasks(tmp_path: Path, seed: int) -> None:
    summary, energy = train(tmp_path, seed, "--config", "mirrored_cartpole", "--config", "methods/shared")
    assert summary["final"]["solved"] is False
    assert energy == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_conflict_bandit(tmp_path: Path, seed: int) -> None:
    args = ("--data.suite", "ConflictBandit", "--data.total_env_steps", "60000", *PLAIN_ARGS)
    varshare, _ = train(tmp_path / "varshare", seed, *args, "--model.sharing", "varshare")
    shared, _ = train(tmp_path / "shared", seed, *args, "--model.sharing", "shared")
    assert varshare["final"]["return_mean"] > 0.95
    # One policy for all tasks is right for at most one of five; evaluation is deterministic, so there is no noise.
    assert shared["final"]["return_mean"] <= 1 / 5
