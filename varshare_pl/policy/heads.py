"""Action distributions. A head turns the actor's outputs into log probabilities, entropies and actions.

All randomness comes in as drawn noise, so that the same noise gives the same actions wherever they are computed.
"""

from __future__ import annotations

import torch
from torch import Tensor


class CategoricalHead:
    """Discrete actions 0 … n−1; the distribution's parameters are n logits.

    Args:
        num_actions: n.
    """

    def __init__(self, num_actions: int) -> None:
        self.num_outputs = num_actions  # size P of the actor's output

    def draw_noise(self, steps: int, envs: int, generator: torch.Generator) -> Tensor:
        """(steps, envs, n) Gumbel noise."""
        exponential = torch.empty(steps, envs, self.num_outputs).exponential_(generator=generator)
        return exponential.log_().neg_()

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Actions (…,) from logits (…, n) and Gumbel noise (…, n): the Gumbel-max trick."""
        return (params + noise).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        """The most likely actions (…,)."""
        return params.argmax(-1)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        """(…,) log probability of actions (…,)."""
        return params.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of actions and entropy of the distributions in nats, both (…,)."""
        log_p = params.log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return log_p.gather(-1, actions.unsqueeze(-1)).squeeze(-1), entropy
