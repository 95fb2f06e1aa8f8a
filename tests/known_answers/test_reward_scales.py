"""Two CartPoles, one of which pays a hundred times as much: one shared net learns both only with normalisation."""

from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from helpers import fit

from varshare_pl.sharing import Shared

pytestmark = pytest.mark.slow
SCALES = (1.0, 100.0)


class ScaledCartPole(CartPoleEnv):
    scale = 1.0

    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, reward * self.scale, *rest


@pytest.fixture(autouse=True)
def _registered() -> Any:
    gym.register("ScaledCartPole-v0", entry_point=ScaledCartPole, max_episode_steps=500)
    yield
    del gym.registry["ScaledCartPole-v0"]


def returns(seed: int, **options: Any) -> list[float]:
    """Training returns over the last eight rollouts, as if every step paid 1."""
    tasks = [{"id": "ScaledCartPole-v0", "name": f"pays {scale:g}", "attributes": {"scale": scale}} for scale in SCALES]
    data = {"suite": tasks, "num_envs": 16, "rollout_steps": 128, "total_env_steps": 80_000, "seed": seed}
    sizes = {"hidden_sizes": (64, 64), "minibatch_size": 512, "update_epochs": 4}
    records = fit(data, sharing=Shared(), seed=seed, **sizes, **options).records[-8:]
    found = []
    for task, scale in enumerate(SCALES):
        known = [r.metrics[f"train/return_task_{task}"] for r in records if f"train/return_task_{task}" in r.metrics]
        found.append(sum(known) / len(known) / scale)
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"normalize_returns": "task"},
        {"normalize_returns": "task", "popart": True},
        {"normalize_rewards": "task"},
        {"normalize_returns": "shared", "popart": True},
        {"normalize_rewards": "shared"},
    ],
    ids=["returns", "popart", "rewards", "popart shared", "rewards shared"],
)
def test_both_are_learned(seed: int, options: dict[str, Any]) -> None:
    assert min(returns(seed, **options)) >= 475


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_normalisation_they_are_not(seed: int) -> None:
    assert max(returns(seed)) < 450
