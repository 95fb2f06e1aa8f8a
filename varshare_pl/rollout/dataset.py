"""The training data: one item is one rollout, collected when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import IterableDataset

from varshare_pl.parallel import raised_by_all
from varshare_pl.rollout.collector import ActingPolicy, Collector
from varshare_pl.types import Rollout


class RolloutDataset(IterableDataset[Rollout]):
    """As many rollouts as the run is long, each acted by the weights of the moment it is fetched.

    It has a length: Lightning fetches one batch ahead of a loader without one, and rollout k + 1 would then be
    collected before update k.

    Args:
        collector: Steps the envs.
        acting_policy: Gives the acting policy for a rollout's index.
        rollout_steps: T.
        first: Index of the first rollout; above 0 in a resumed run.
        last: Index after the last rollout.
    """

    def __init__(
        self,
        collector: Collector,
        acting_policy: Callable[[int], ActingPolicy],
        rollout_steps: int,
        first: int,
        last: int,
    ) -> None:
        self._collector = collector
        self._acting_policy = acting_policy
        self._steps = rollout_steps
        self._indices = range(first, last)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Rollout]:
        # Nothing happens before the first next(): Lightning calls iter() once more at set-up.
        for index in self._indices:
            with raised_by_all():
                rollout = self._collector.collect(self._acting_policy(index), self._steps, index)
            yield rollout
