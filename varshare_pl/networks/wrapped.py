"""Networks around a method's network: an encoder before it, a mask behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varshare_pl.networks.encoder import ImageEncoder
from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.layer import Noise, TaskLinear, of_tasks
from varshare_pl.networks.network import TaskNetwork

MASKED = -1e9  # logit of an action that a task does not have: its probability is 0


class Prepared(NamedTuple):
    """What the inner network prepared, and what is around it."""

    network: Any
    around: Any


class WrappedNetwork(TaskNetwork):
    """A network that leaves all but its ends to another one.

    Args:
        network: The other one.
    """

    def __init__(self, network: TaskNetwork) -> None:
        super().__init__(network.num_tasks)
        self.network = network

    def around(self, group_task: Tensor) -> Any:
        """What is prepared beside what the inner network prepares."""
        raise NotImplementedError

    def around_shared(self, group_task: Tensor) -> Any:
        """The same with every task's deviation from what is shared set to 0."""
        return self.around(group_task)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> Prepared:
        return Prepared(self.network.prepare(group_task, noise), self.around(group_task))

    def prepare_shared(self, group_task: Tensor) -> Prepared:
        return Prepared(self.network.prepare_shared(group_task), self.around_shared(group_task))

    def with_local_noise(self, prepared: Prepared, noise: Sequence[LocalNoise | None]) -> Prepared:
        return prepared._replace(network=self.network.with_local_noise(prepared.network, noise))

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        return self.network.layers()

    def after_update(self, rollout: int) -> None:
        self.network.after_update(rollout)

    def measures(self) -> dict[str, float]:
        return self.network.measures()


class EncodedNetwork(WrappedNetwork):
    """A network that reads encoded images.

    Args:
        encoder: Of rows (G, R, H · W · C).
        network: Reads its features.
    """

    def __init__(self, encoder: ImageEncoder, network: TaskNetwork) -> None:
        super().__init__(network)
        self.encoder = encoder

    def around(self, group_task: Tensor) -> list[Tensor]:
        return self.encoder.prepare(group_task)

    def around_shared(self, group_task: Tensor) -> list[Tensor]:
        return self.encoder.prepare_shared()

    def compute(self, prepared: Prepared, x: Tensor) -> Tensor:
        return self.network.compute(prepared.network, self.encoder.compute(prepared.around, x))


class MaskedNetwork(WrappedNetwork):
    """An actor whose tasks have the first of its actions only.

    Args:
        network: Gives logits (G, R, n).
        counts: How many actions each task has.
    """

    mask: Tensor  # (M, 1, n) bool, true where a task has no such action

    def __init__(self, network: TaskNetwork, counts: Sequence[int]) -> None:
        super().__init__(network)
        absent = torch.arange(max(counts)) >= torch.tensor(counts).unsqueeze(1)
        self.register_buffer("mask", absent.unsqueeze(1), persistent=False)

    def around(self, group_task: Tensor) -> Tensor:
        return of_tasks(self.mask, group_task)

    def compute(self, prepared: Prepared, x: Tensor) -> Tensor:
        return self.network.compute(prepared.network, x).masked_fill(prepared.around, MASKED)
