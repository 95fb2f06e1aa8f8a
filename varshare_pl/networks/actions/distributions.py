"""Action distributions: modules that turn the actor's outputs into log probabilities, entropies and actions.

All randomness comes in as drawn noise, so that the same noise gives the same actions wherever they are computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ActionDistribution(nn.Module, ABC):
    """A family of distributions over actions. Its own parameters, if it has any, are trained with the actor's.

    The actor's outputs (…, O) and what the distribution has of its own together are the parameters (…, P) of the
    distributions; all else is a function of these alone.

    Args:
        num_outputs: O, the size of the actor's output.
    """

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs

    def prepare(self, group_task: Tensor) -> Tensor | None:
        """What stands beside the actor's outputs for groups of the tasks group_task (G,): (G, 1, A), or None."""
        return None

    def params(self, outputs: Tensor, prepared: Tensor | None) -> Tensor:
        """The distributions' parameters (G, R, P) from the actor's outputs (G, R, O) and ``prepare``."""
        return outputs

    @abstractmethod
    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        """(steps, envs, K) what actions are drawn with."""

    @abstractmethod
    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Actions (…, *action) from parameters (…, P) and noise (…, K)."""

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The most likely actions (…, *action)."""

    @abstractmethod
    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of actions and entropy of the distributions in nats, both (…,)."""

    @abstractmethod
    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """(…,) KL(old ‖ new) in nats of distributions with the parameters old and new (…, P)."""

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        """(…,) log probability of actions (…, *action)."""
        return self.log_prob_and_entropy(params, actions)[0]

    def to_env(self, actions: Tensor) -> Tensor:
        """What the env gets for actions (…, *action) that were drawn; on the CPU, of the space's type."""
        return actions


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

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        old, new = old.log_softmax(-1), new.log_softmax(-1)
        return (old.exp() * (old - new)).sum(-1)


class MultiDiscrete(ActionDistribution):
    """Several discrete actions at once, independent of each other; the actor's outputs are the logits of all.

    Args:
        sizes: How many actions each has.
        shape: Of an action.
    """

    def __init__(self, sizes: Sequence[int], shape: tuple[int, ...]) -> None:
        super().__init__(sum(sizes))
        self.sizes = list(sizes)
        self.shape = shape
        self.parts = [Categorical(size) for size in sizes]

    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        return torch.cat([part.draw_noise(steps, envs, generator) for part in self.parts], -1)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        return self.mode(params + noise)  # as of each categorical

    def mode(self, params: Tensor) -> Tensor:
        chosen = [part.mode(logits) for part, logits in self._split(params)]
        return torch.stack(chosen, -1).reshape(*params.shape[:-1], *self.shape)

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        chosen = actions.reshape(*params.shape[:-1], len(self.parts)).unbind(-1)
        each = [part.log_prob_and_entropy(p, a) for (part, p), a in zip(self._split(params), chosen, strict=True)]
        log_probs, entropies = zip(*each, strict=True)
        return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        pairs = zip(self._split(old), self._split(new), strict=True)
        return torch.stack([part.kl(before, after) for (part, before), (_, after) in pairs]).sum(0)

    def _split(self, params: Tensor) -> list[tuple[Categorical, Tensor]]:
        """Each categorical with its logits."""
        return list(zip(self.parts, torch.split(params, self.sizes, -1), strict=True))
