"""Action distributions: modules that turn the actor's outputs into log probabilities, entropies and actions.

All randomness comes in as drawn noise, so that the same noise gives the same actions wherever they are computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from varshare_pl.errors import ConfigError


class ActionDistribution(nn.Module, ABC):
    """A family of distributions over actions. Its own parameters, if it has any, are trained with the actor's.

    Args:
        num_outputs: P, the size of the actor's output.
    """

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs

    @abstractmethod
    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        """(steps, envs, K) what actions are drawn with."""

    @abstractmethod
    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Actions (…, *action) from the actor's outputs (…, P) and noise (…, K)."""

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The most likely actions (…, *action)."""

    @abstractmethod
    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of actions and entropy of the distributions in nats, both (…,)."""

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        """(…,) log probability of actions (…, *action)."""
        return self.log_prob_and_entropy(params, actions)[0]


class Categorical(ActionDistribution):
    """Discrete actions 0 … n−1; the actor's outputs are n logits."""

    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        """(steps, envs, n) Gumbel noise."""
        exponential = torch.empty(steps, envs, self.num_outputs).exponential_(generator=generator)
        return exponential.log_().neg_()

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Actions (…,) by the Gumbel-max trick."""
        return (params + noise).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        return params.argmax(-1)

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        # Classes first: a softmax over a short last axis takes ten times as long.
        log_p = params.movedim(-1, 0).contiguous().log_softmax(0)
        log_prob = log_p.gather(0, actions.unsqueeze(0)).squeeze(0)
        return log_prob, -(log_p.exp() * log_p).sum(0)


def make_distribution(action_space: Space) -> ActionDistribution:  # type: ignore[type-arg]
    """The action distribution for an action space.

    Raises:
        ConfigError: for a space that no distribution is for.
    """
    if isinstance(action_space, spaces.Discrete):
        return Categorical(int(action_space.n))
    raise ConfigError(f"data.suite: the action space {action_space} is not allowed; Discrete is")
