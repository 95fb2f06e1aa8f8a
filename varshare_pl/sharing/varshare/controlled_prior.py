"""VarShare with a prior that a controller moves, so that the weight noise stays in proportion to the weights.

Too much noise drowns the policy, too little leaves the KL no say. The controller of a network watches

    r = median σ / median |θ̄|

over all its residual weights, keeps a moving average of it, and every 20 rollouts, if that has left the range
[0.05, 0.20], moves σ_p of all layers by the factor 1.1: down where the noise is too large, up where it is too small,
within [0.1, 10] of its start. σ then follows through the KL. To raise β̃ instead would run away where σ_p is large: the
KL pulls σ up to σ_p. The scale of parameter noise is steered by a constant factor in M. Plappert et al., ICLR 2018,
arXiv 1706.01905, too; there the target is a distance between policies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.gaussian import kl_to_prior
from varshare_pl.networks.layer import LayerSpec, TaskLinear
from varshare_pl.sharing.varshare.linear import VarShareLinear
from varshare_pl.sharing.varshare.method import VarShare

EVERY = 20  # rollouts
RATE = 0.05  # of the moving average, a rollout
LOWEST, HIGHEST = 0.05, 0.20  # of the ratio
STEP = 1.1  # what σ_p is multiplied or divided by
FARTHEST = 10.0  # times or part of its start


class ControlledPriorLinear(VarShareLinear):
    """VarShare's layer whose σ_p may change between rollouts; arguments as there.

    Attributes:
        prior_std: σ_p at the start.
        log_prior_std: () log σ_p, a buffer.
    """

    log_prior_std: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        initial_sigma: float = 0.5,
        task_bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks, prior_scale, initial_sigma, task_bias)
        self.register_buffer("log_prior_std", torch.tensor(math.log(self.prior_std)))

    def kl(self) -> Tensor:
        return kl_to_prior(self.mu, self.log_var, self.current_prior_std())

    def current_prior_std(self) -> Tensor:
        return self.log_prior_std.exp()


class NoiseController(nn.Module):
    """Moves σ_p of the layers of one network; what it knows is in buffers, so in checkpoints.

    Attributes:
        noise_ratio: () moving average of r; NaN before the first rollout.
        factor: () σ_p over its start, the same for all layers.
    """

    noise_ratio: Tensor
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise_ratio", torch.tensor(torch.nan))
        self.register_buffer("factor", torch.tensor(1.0))

    @torch.no_grad()
    def control(self, layers: Iterable[tuple[str, TaskLinear]], rollout: int) -> None:
        """Look at a network's weights after the update on a rollout, and move σ_p where it is time to."""
        controlled = [layer for _, layer in layers if isinstance(layer, ControlledPriorLinear)]
        ratio = noise_ratio(controlled)
        self.noise_ratio.copy_(ratio if self.noise_ratio.isnan() else torch.lerp(self.noise_ratio, ratio, RATE))
        if (rollout + 1) % EVERY:
            return
        if self.noise_ratio > HIGHEST:
            self.factor.div_(STEP)
        elif self.noise_ratio < LOWEST:
            self.factor.mul_(STEP)
        else:
            return
        self.factor.clamp_(1.0 / FARTHEST, FARTHEST)
        for layer in controlled:
            layer.log_prior_std.copy_(math.log(layer.prior_std) + self.factor.log())


@torch.no_grad()
def noise_ratio(layers: Sequence[VarShareLinear]) -> Tensor:
    """() median σ over tasks and weights, over the median |θ̄| over weights."""
    log_var = torch.cat([layer.log_var.flatten() for layer in layers])
    theta = torch.cat([layer.shared_and_residual()[0].flatten() for layer in layers])
    return (0.5 * log_var.median()).exp() / theta.abs().median()


class VarShareControlledPrior(VarShare):
    """VarShare whose σ_p is moved every 20 rollouts so that the median σ stays in proportion to the shared weights.

    Args:
        prior_scale: c in σ_p = c / √fan_in, where σ_p of a layer starts.
        initial_sigma: See varshare.
        layers: See varshare.
        task_bias: See varshare.
        absorption: See varshare.
        task_embedding: See varshare.
    """

    name: ClassVar[str] = "varshare_controlled_prior"

    def make_residual_layer(self, spec: LayerSpec) -> ControlledPriorLinear:
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        return ControlledPriorLinear(*sizes, self.prior_scale, self.initial_sigma, self.task_bias)

    def make_controller(self) -> NoiseController:
        return NoiseController()
