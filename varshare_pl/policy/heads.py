"""Action distributions. A head turns the actor's outputs into log probabilities, entropies and actions.

All randomness comes in as drawn noise, so that the same noise gives the same actions wherever they are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
        return _classes_first(params).log_softmax(0).gather(0, actions.unsqueeze(0)).squeeze(0)

    def log_prob_and_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log probability of actions and entropy of the distributions in nats, both (…,)."""
        return _LogProbAndEntropy.apply(params, actions)  # type: ignore[no-any-return, no-untyped-call]

    def log_prob_and_entropy_with_pullback(
        self, params: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """The same without autograd; and what makes of their gradients that of the logits (…, n)."""
        log_prob, entropy, saved = _forward(params, actions)
        return log_prob, entropy, partial(_backward, saved)


class _LogProbAndEntropy(torch.autograd.Function):
    """Both in one node of autograd."""

    @staticmethod
    def forward(ctx: Any, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_prob, entropy, saved = _forward(params, actions)
        ctx.save_for_backward(*saved)
        return log_prob, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, None]:
        return _backward(ctx.saved_tensors, of_log_prob, of_entropy), None


def _forward(params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    log_p, index = _classes_first(params).log_softmax(0), actions.unsqueeze(0)
    p = log_p.exp()
    entropy = (p * log_p).sum(0).neg_()
    return log_p.gather(0, index).squeeze(0), entropy, (log_p, p, entropy, index)


def _backward(saved: tuple[Tensor, ...], of_log_prob: Tensor, of_entropy: Tensor) -> Tensor:
    """The logits' gradient: d log p_a / d logits = 1_a − p and dH / d logits = −p (log p + H), row by row."""
    log_p, p, entropy, index = saved
    inner = torch.addcmul(of_log_prob, log_p + entropy, of_entropy)
    return inner.mul_(p).neg_().scatter_add_(0, index, of_log_prob.unsqueeze(0)).movedim(0, -1)


def _classes_first(params: Tensor) -> Tensor:
    """(n, …) from (…, n), contiguous: a softmax over a short last axis takes ten times as long."""
    return params.movedim(-1, 0).contiguous()
