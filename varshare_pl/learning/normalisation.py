"""What running moments are used for in learning: units of the critic's targets, and of rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.moments import TaskMoments
from varshare_pl.parallel import double, gather_plain, rank, world_size
from varshare_pl.rollout.minibatches import Rows
from varshare_pl.types import Detail, Rollout

LARGEST_REWARD = 10.0  # standard deviations beyond which a scaled reward is cut off


@torch.no_grad()
def normalise_targets(policy: ActorCritic, rows: Rows) -> None:
    """Turn values and value targets in raw units, which advantages come from, into those of the critic's outputs.

    The targets first enter the moments. Under PopArt the critic then follows, so that what it says in raw
    units stays; else its outputs stay, and mean something else.

    Args:
        policy: Its moments of value targets, if it has them, and with PopArt its critic, change.
        rows: "values" and "returns" are replaced.
    """
    moments = policy.return_moments
    if moments is None:
        return
    task = rows["task"]
    outputs = moments.normalise(rows["values"], task)
    known, mean, std = moments.count > 0, *(each.clone() for each in moments.by_task())
    moments.update(rows["returns"], task)
    if policy.popart is not None:
        new_mean, new_std = moments.by_task()
        ratio = torch.where(known, std / new_std, 1.0)
        offset = torch.where(known, (mean - new_mean) / new_std, 0.0)
        policy.popart.rescale(ratio, offset)
        outputs = outputs * ratio[task] + offset[task]
    rows["values"], rows["returns"] = outputs, moments.normalise(rows["returns"], task)


class RewardScaling:
    """Divides rewards by the standard deviation of discounted returns (Engstrom et al. 2020, arXiv 2005.12729).

    R_t = r_t + γ R_{t−1} runs in every env, from 0 at the start of an episode. Its mean is not taken off: that would
    change which policy is best.

    Args:
        moments: Of R; of the policy, whose critic learns in the units that they make.
        gamma: Discount γ.
    """

    def __init__(self, moments: TaskMoments, gamma: float) -> None:
        self._moments = moments
        self._gamma = gamma
        self._running: Tensor | None = None  # (N,) R of this process's envs

    @torch.no_grad()
    def scale(self, rollout: Rollout) -> Rollout:
        """The same rollout with scaled rewards; its R enter the moments first."""
        task, running = rollout.task.flatten(), self._running
        rewards = double(rollout.rewards)
        running = torch.zeros_like(rewards[0]) if running is None else running.to(rewards)
        seen = []
        for reward, done in zip(rewards, rollout.terminated | rollout.truncated, strict=True):
            seen.append(torch.add(reward, running, alpha=self._gamma))
            running = seen[-1].masked_fill(done, 0.0)
        self._running = running
        self._moments.update(torch.stack(seen).flatten(), task)
        _, std = self._moments.by_task()
        scaled = rollout.rewards / std[rollout.task]
        return replace(rollout, rewards=scaled.clamp(-LARGEST_REWARD, LARGEST_REWARD))

    def state(self) -> list[float]:
        """R of the envs of all processes, in their global order; empty before the first rollout."""
        here = [] if self._running is None else self._running.tolist()
        return list(chain.from_iterable(gather_plain(here)))

    def load_state(self, state: Sequence[float]) -> None:
        """Take up the R of a checkpoint. An env that could not be resumed keeps that of the episode it lost."""
        each = len(state) // world_size()
        self._running = torch.tensor(state[rank() * each : (rank() + 1) * each], dtype=torch.float64) if state else None


def moment_details(policy: ActorCritic) -> list[Detail]:
    """Mean and standard deviation of moments of numbers, of each task that has them, or of all together."""
    rows = []
    for name, moments in (("return", policy.return_moments), ("reward", policy.reward_moments)):
        if moments is None:
            continue
        for row in moments.count.nonzero().flatten().tolist():
            task = None if moments.shared else row
            rows.append(Detail(f"normalisation/{name}_std", float(moments.std[row]), task=task))
            if name == "return":
                rows.append(Detail("normalisation/return_mean", float(moments.mean[row]), task=task))
    return rows
