"""Gaussian distributions over the actions of a Box."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actions.distributions import ActionDistribution
from varshare_pl.networks.layer import NewTask, of_tasks
from varshare_pl.networks.options import ActionOptions

LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)
NODES = 32  # of the quadrature


class DiagonalGaussian(ActionDistribution):
    """Actions of a Box, each dimension normal and independent of the others.

    The distribution's parameters are A means and A logarithms of standard deviations, A the size of a flat action. The
    actor's outputs are the means, and under log_std "network" what is added to log_std_init too. The env gets actions
    clipped to the space; log probability, entropy and KL are those of the actions before.

    A task that joins a trained network starts with log_std_init: it has yet to explore.

    Args:
        space: Of floats; bounded or not.
        num_tasks: M.
        options: Of the standard deviation.

    Attributes:
        log_std: (M, A), or (1, A) for all tasks; absent where it comes from the network.
    """

    new_task: ClassVar[dict[str, NewTask]] = {"log_std": "own"}

    def __init__(self, space: Box, num_tasks: int, options: ActionOptions) -> None:
        size = math.prod(space.shape)
        super().__init__(2 * size if options.log_std == "network" else size)
        self.size = size  # A
        self.shape = tuple(space.shape)
        self._init, self._limits = options.log_std_init, (options.log_std_min, options.log_std_max)
        if options.log_std == "network":
            low, high = self._limits
            if not low <= self._init <= high or low == high:
                raise ConfigError(
                    f"model.log_std_init: {self._init} is not allowed with model.log_std_min {low} and "
                    f"model.log_std_max {high}; a number between them is"
                )
        else:
            tasks = num_tasks if options.log_std == "task" else 1
            self.log_std = nn.Parameter(torch.full((tasks, size), float(self._init)))
        # No buffers: they belong where the envs are.
        self._low, self._high = (torch.from_numpy(bound.copy()) for bound in (space.low, space.high))

    def prepare(self, group_task: Tensor) -> Tensor | None:
        """(G, 1, A) log standard deviations; None where they are outputs of the actor."""
        if self.num_outputs > self.size:
            return None
        shared = len(self.log_std) == 1
        log_std = self.log_std.expand(len(group_task), -1) if shared else of_tasks(self.log_std, group_task)
        return log_std.unsqueeze(1)

    def params(self, outputs: Tensor, prepared: Tensor | None) -> Tensor:
        """(G, R, 2 A) means and log standard deviations."""
        if prepared is not None:
            return torch.cat([outputs, prepared.to(outputs).expand_as(outputs)], -1)
        mean, log_std = outputs.chunk(2, -1)
        return torch.cat([mean, (log_std + self._init).clamp(*self._limits)], -1)

    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        """(steps, envs, A) standard normal noise."""
        return torch.randn(steps, envs, self.size, generator=generator)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = params.chunk(2, -1)
        return self._unflatten(mean + log_std.exp() * noise)

    def mode(self, params: Tensor) -> Tensor:
        return self._unflatten(params.chunk(2, -1)[0])

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = params.chunk(2, -1)
        z = (actions.reshape(mean.shape) - mean) * (-log_std).exp()
        log_prob = (-0.5 * z.square() - log_std - LOG_ROOT_TAU).sum(-1)
        return log_prob, (log_std + 0.5 + LOG_ROOT_TAU).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        (mean, log_std), (new_mean, new_log_std) = old.chunk(2, -1), new.chunk(2, -1)
        ratio, distance = (2.0 * (log_std - new_log_std)).exp(), (mean - new_mean) * (-new_log_std).exp()
        return (new_log_std - log_std + 0.5 * (ratio + distance.square() - 1.0)).sum(-1)

    def std(self, params: Tensor) -> Tensor:
        """(…,) standard deviations, mean over the dimensions of an action."""
        return params.chunk(2, -1)[1].exp().mean(-1)

    def to_env(self, actions: Tensor) -> Tensor:
        """Clipped to the space's bounds, of the space's type; memory of its own."""
        return actions.to(self._low.dtype).clamp(self._low, self._high)

    def _unflatten(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], *self.shape)


class SquashedGaussian(DiagonalGaussian):
    """A Gaussian u whose tanh, scaled to the space's bounds, is what the env gets.

    a = low + (high − low) (tanh u + 1) / 2

    What is drawn and stored is u, so that no arctanh is needed and log probabilities are exact at the bounds. Log
    probability and entropy are those of a:

        log p(a) = log N(u) − Σ log((high − low)/2 · (1 − tanh² u))

    The entropy has no closed form. It is a sum over dimensions of expectations of one normal variable each, by
    Gauss-Hermite quadrature: within 1e-6 nats a dimension up to a standard deviation of 1, 2e-3 up to e, 0.1 up to e².
    The KL is that of the Gaussians, which no invertible map changes. ``mode`` is their mode, whose image is the median
    of a.

    Raises:
        ConfigError: for a space that is not bounded, or has no room between its bounds.
    """

    def __init__(self, space: Box, num_tasks: int, options: ActionOptions) -> None:
        super().__init__(space, num_tasks, options)
        if not space.is_bounded() or not (space.low < space.high).all():
            lack = "room between bounds" if space.is_bounded() else "bounds"
            raise ConfigError(
                f"model.action_bounds: tanh is not allowed with the action space {space}, which has no {lack} "
                "everywhere; clip is"
            )
        self._half = self._high / 2 - self._low / 2
        self._log_half = float(self._half.double().log().sum())
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self._nodes, self._weights = nodes.tolist(), (weights / weights.sum()).tolist()

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_prob, entropy = super().log_prob_and_entropy(params, actions)
        mean, log_std = params.chunk(2, -1)
        at_nodes = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * mean.new_tensor(self._nodes)
        expected = (log_slope(at_nodes) * mean.new_tensor(self._weights)).sum((-2, -1)) + self._log_half
        return log_prob - log_slope(actions.reshape(mean.shape)).sum(-1) - self._log_half, entropy + expected

    def to_env(self, actions: Tensor) -> Tensor:
        """Squashed and scaled to the space's bounds, of the space's type."""
        return super().to_env(self._low + self._half * (actions.to(self._low.dtype).tanh() + 1.0))


def log_slope(u: Tensor) -> Tensor:
    """Log(1 − tanh² u), also where tanh u rounds to ±1."""
    return 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
