"""Weight noise while acting and learning: one object for each mode, chosen once.

PPO divides the new probability of an action by the old one. Both must be computed under the same noise of the actor's
weights, else the ratio differs from 1 before any step, and clipping fires on noise. The critic has no ratio.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from varshare_pl.learning.options import ActorNoiseMode, CriticNoiseMode
from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.layer import Noise, VariationalLayer
from varshare_pl.networks.network import TaskNetwork
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.parallel import rank
from varshare_pl.random import stream

NetworkNoise = Sequence[Noise] | None
"""An entry for each of a network's layers; None for the posterior mean."""


class WeightNoise:
    """Noise of one network's weights.

    Args:
        network: Whose noise it is.
        seed: The run's.
    """

    def __init__(self, network: TaskNetwork, seed: int) -> None:
        self.network = network
        self.seed = seed

    def draw_weights(self, generator: torch.Generator) -> list[Noise]:
        """One draw per task and layer."""
        return [weight_noise(layer, generator) for _, layer in self.network.layers()]


class ActorNoise(WeightNoise, ABC):
    """The actor's noise, while it acts and while it learns."""

    changes_every_step: ClassVar[bool] = False  # whether acting needs new weights at every env step

    @abstractmethod
    def acting(self, rollout: int, step: int, groups: int) -> NetworkNoise:
        """What the weights that act for this number of groups are prepared with."""

    @abstractmethod
    def learning(self, rollout: int, step: int, rows: Tensor | None) -> NetworkNoise:
        """The noise of a minibatch.

        Args:
            rollout: Index of the rollout.
            step: Of the update, from 0.
            rows: (G, R, Z) what was stored with its rows, or None.
        """


class RolloutNoise(ActorNoise):
    """One draw per task and layer for a rollout: acting and all epochs of the update use it."""

    def __init__(self, network: TaskNetwork, seed: int) -> None:
        super().__init__(network, seed)
        self._drawn: tuple[int, NetworkNoise] = (-1, None)  # for a rollout

    def acting(self, rollout: int, step: int, groups: int) -> NetworkNoise:
        return self._of_rollout(rollout)

    def learning(self, rollout: int, step: int, rows: Tensor | None) -> NetworkNoise:
        return self._of_rollout(rollout)

    def _of_rollout(self, rollout: int) -> NetworkNoise:
        if self._drawn[0] != rollout:
            with torch.inference_mode(False):  # acting asks first, and learning could not use its tensors
                self._drawn = rollout, self.draw_weights(stream(self.seed, "weight_noise", rollout))
        return self._drawn[1]


class FreshNoise(ActorNoise):
    """A new draw at every forward: the ratio is not 1 before any step. For comparison only."""

    changes_every_step = True

    def acting(self, rollout: int, step: int, groups: int) -> NetworkNoise:
        del groups
        return self.draw_weights(stream(self.seed, "fresh_noise/acting", rollout, step))

    def learning(self, rollout: int, step: int, rows: Tensor | None) -> NetworkNoise:
        del rows
        return self.draw_weights(stream(self.seed, "fresh_noise/update", rollout, step))


class StoredNoise(ActorNoise):
    """Drawn per env step at the layers' outputs, and kept for the update.

    Local reparameterisation (Kingma et al. 2015, arXiv 1506.02557) gives every row weights of its own, so that rows are
    independent draws from the posterior. The update takes a row's noise again. A row's noise is one vector, layer
    behind layer.
    """

    def __init__(self, network: TaskNetwork, seed: int) -> None:
        super().__init__(network, seed)
        layers = [layer for _, layer in network.layers()]
        self._sizes = [layer.noise_shape.outputs if isinstance(layer, VariationalLayer) else 0 for layer in layers]
        self.row_size = sum(self._sizes)  # Z

    def draw_rows(self, steps: int, envs: int, rollout: int) -> Tensor:
        """The noise that is stored with each row of a rollout, (steps, envs, Z) on the CPU."""
        generator = stream(self.seed, "stored_noise", rollout)
        drawn = [local_noise(layer, steps, envs, generator) for _, layer in self.network.layers()]
        return torch.cat([noise.zeta.cpu() for noise in drawn if noise is not None], -1)

    def acting(self, rollout: int, step: int, groups: int) -> NetworkNoise:
        like = next(self.network.parameters())
        return self.of_layers(like.new_zeros(groups, 1, self.row_size))  # until there are rows

    def learning(self, rollout: int, step: int, rows: Tensor | None) -> NetworkNoise:
        return None if rows is None else self.of_layers(rows)

    def of_layers(self, rows: Tensor) -> list[LocalNoise | None]:
        """The noise of rows (G, R, Z) layer by layer."""
        parts = torch.split(rows, self._sizes, -1)
        return [LocalNoise(part) if size else None for part, size in zip(parts, self._sizes, strict=True)]


class CriticNoise(WeightNoise, ABC):
    """The critic's noise in the value loss."""

    @abstractmethod
    def learning(self, rollout: int, step: int, groups: int, rows: int) -> NetworkNoise:
        """The noise of a minibatch.

        Args:
            rollout: Index of the rollout.
            step: Of the update, from 0.
            groups: G of the minibatch.
            rows: R of the minibatch.
        """

    def row_stream(self, rollout: int, step: int) -> torch.Generator:
        """For noise of rows, which differ between processes."""
        return stream(self.seed, "critic_noise/rows", rank(), rollout, step)

    def weight_stream(self, rollout: int, step: int) -> torch.Generator:
        """For noise of weights, which are the same on all processes."""
        return stream(self.seed, "critic_noise/weights", rollout, step)


class LocalCriticNoise(CriticNoise):
    """Drawn per row at each layer's output (local reparameterisation)."""

    def learning(self, rollout: int, step: int, groups: int, rows: int) -> NetworkNoise:
        generator = self.row_stream(rollout, step)
        return [local_noise(layer, groups, rows, generator) for _, layer in self.network.layers()]


class WeightCriticNoise(CriticNoise):
    """A draw per task and layer for a minibatch."""

    def learning(self, rollout: int, step: int, groups: int, rows: int) -> NetworkNoise:
        return self.draw_weights(self.weight_stream(rollout, step))


ACTOR_NOISE: dict[str, type[ActorNoise]] = {
    "rollout": RolloutNoise,
    "stored": StoredNoise,
    "fresh": FreshNoise,
}
CRITIC_NOISE: dict[str, type[CriticNoise]] = {
    "local": LocalCriticNoise,
    "weights": WeightCriticNoise,
}


def make_actor_noise(mode: ActorNoiseMode, actor: TaskNetwork, seed: int) -> ActorNoise | None:
    """The noise of an actor; None where it acts and learns with the posterior mean."""
    return None if mode == "mean" or not actor.has_noise else ACTOR_NOISE[mode](actor, seed)


def make_critic_noise(mode: CriticNoiseMode, critic: TaskNetwork, seed: int) -> CriticNoise | None:
    """The same for a critic."""
    return None if mode == "mean" or not critic.has_noise else CRITIC_NOISE[mode](critic, seed)
