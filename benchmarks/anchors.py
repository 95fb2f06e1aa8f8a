"""Returns of the uniformly random policy, the low anchors of ``varshare_pl/results/anchors.py``.

``python -m benchmarks.anchors`` measures them for all suites with physics of their own.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from varshare_pl.envs import PHYSICS_SUITES, get_suite
from varshare_pl.random import stream
from varshare_pl.trained.evaluation import evaluate


def random_returns(suite: str, episodes: int, seed: int = 1) -> NDArray[np.float64]:
    """(M, episodes) returns of the policy that draws its actions uniformly."""
    found = get_suite(suite)
    generator = stream(seed, "random_policy")
    space = found.action_space

    def act(_obs: Tensor, task: Tensor) -> Tensor:
        if isinstance(space, Box):
            low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
            return low + (high - low) * torch.rand(len(task), *space.shape, generator=generator)
        return torch.randint(int(space.n), task.shape, generator=generator)  # type: ignore[union-attr]

    return evaluate(act, found, episodes, seed, counter=0, envs_per_task=min(episodes, 100)).returns


if __name__ == "__main__":
    for name in PHYSICS_SUITES:
        returns = random_returns(name, episodes=20_000)
        error = returns.std(axis=1, ddof=1) / np.sqrt(returns.shape[1])
        print(name, *(f"{mean:.2f} ± {se:.2f}" for mean, se in zip(returns.mean(axis=1), error, strict=True)))
