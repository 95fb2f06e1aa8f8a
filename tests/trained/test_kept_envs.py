"""Evaluations of a run keep their envs where these begin as new ones, with the numbers of new ones either way."""

import multiprocessing
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from varshare_pl.envs import get_suite
from varshare_pl.trained import evaluation
from varshare_pl.trained.evaluation import evaluate
from varshare_pl.trained.kept_envs import KeptEnvs

EVALUATIONS = 3


class Tiring(CartPoleEnv):
    """Pays less with every episode that it has had; what it remembers is told with its state."""

    episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 1.0 / self.episodes, *rest


class Secretive(CartPoleEnv):
    """Cannot tell its state: some of it is no plain data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.held = object()


@pytest.fixture(autouse=True)
def ids():
    for kind in (Tiring, Secretive):
        gym.register(f"{kind.__name__}-v0", kind, max_episode_steps=30)
    yield
    for kind in (Tiring, Secretive):
        del gym.registry[f"{kind.__name__}-v0"]


@pytest.fixture
def made(monkeypatch):
    """The envs that evaluations made."""
    found, make = [], evaluation.make_vector_env

    def noted(*args, **kwargs):
        found.append(make(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(evaluation, "make_vector_env", noted)
    return found


def results(suite, backend="auto", kept=None):
    """Several evaluations, as lists of returns and lengths."""
    space = suite.action_space

    def act(obs, task):
        if hasattr(space, "n"):
            return (obs[:, 1] > 0).long()  # falls soon
        return torch.sin(20 * obs[:, : space.shape[0]].double()).float()

    limits = {"envs_per_task": 1, "max_episode_steps": 25}
    plain = []
    for counter in range(EVALUATIONS):
        result = evaluate(act, suite, 2, 3, counter, backend, kept=kept, **limits)
        plain.append(result.to_plain())
    return plain


@pytest.mark.parametrize(
    ("suite", "backend", "sets"),
    [
        ("ComplexCartPole", "batched", 2),  # the second evaluation makes envs to compare with
        ("ComplexCartPole", "torch", 2),
        ("CartPole", "workers", 2),
        ({"name": "CheetahFamily", "directions": False}, "sync", 2),
        ({"name": "MetaWorld", "benchmark": "MT3"}, "sync", 2),
        (["Tiring-v0"], "sync", EVALUATIONS),
        (["Secretive-v0"], "sync", EVALUATIONS),
        (
            {"name": "Norm", "tasks": ["CartPole-v1"], "wrappers": ["gymnasium.wrappers.NormalizeObservation"]},
            "sync",
            EVALUATIONS,
        ),
    ],
    ids=["batched", "torch", "workers", "MuJoCo", "Meta-World", "remembers", "does not tell", "wrapper remembers"],
)
def test_the_numbers_of_new_envs(suite, backend, sets, made) -> None:
    suite = get_suite(suite)
    expected = results(suite, backend)
    made.clear()
    with closing(KeptEnvs()) as kept:
        assert results(suite, backend, kept) == expected
    assert len(made) == sets
    assert all(envs.closed for envs in made)
    assert len({str(result["returns"]) for result in expected}) > 1, "evaluations differ"


def test_an_error_closes_them(made) -> None:
    def bad(obs, task):
        raise RuntimeError("of the policy")

    kept = KeptEnvs()
    with pytest.raises(RuntimeError, match="of the policy"):
        evaluate(bad, get_suite("CartPole"), 1, 1, 0, kept=kept)
    assert made[0].closed
    result = evaluate(
        lambda obs, task: torch.zeros(len(obs), dtype=torch.int64), get_suite("CartPole"), 1, 1, 0, kept=kept
    )
    kept.close()
    assert np.isfinite(result.returns).all()


def test_a_run_closes_its_own(tmp_path, made) -> None:
    from varshare_pl.cli.main import main

    args = [
        "--data.suite",
        "CartPole",
        "--data.num_envs",
        "2",
        "--data.rollout_steps",
        "8",
        "--model.hidden_sizes",
        "[8]",
    ]
    args += ["--data.backend", "workers", "--data.num_workers", "1", "--data.total_env_steps", "64"]
    args += ["--model.minibatch_size", "16", "--evaluation.every", "16", "--evaluation.episodes", "1"]
    args += ["--plots.enabled", "false", "--experiment", "x", "--logs_dir", str(tmp_path)]
    assert main(["fit", *args]) == 0
    assert len(made) == 2
    assert main(["prune", str(tmp_path / "x" / "seed_1"), "--threshold", "0.5", "1", "2"]) == 0
    assert len(made) == 4
    assert all(envs.closed for envs in made)
    assert not multiprocessing.active_children()
