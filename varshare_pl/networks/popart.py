"""PopArt: a critic that keeps what it says in raw units while the units of its targets change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from varshare_pl.networks.layer import of_tasks


class PopArt(nn.Module):
    """y_m = a_m f_m(x) + c_m: a scale a_m and a shift c_m for each task behind a critic f, learned like its weights.

    PopArt (van Hasselt et al. 2016, arXiv 1602.07714; Hessel et al. 2018, arXiv 1809.04474) keeps what a critic says in
    raw units, σ_m y_m + μ_m, while σ_m and μ_m change. Where this differs from the papers:

    1. They move a task's row of the last layer. Most sharing methods have no such row: a last layer that tasks share
       cannot follow all of them, and VarShare's residual would pay for it in its KL. a_m and c_m follow instead,
       whatever the method.
    2. Moments are those of all value targets so far, not an exponential average, and change once a rollout.
    3. A task's first moments move nothing: what an untrained critic says is not worth keeping, and a_m would start at
       1/σ_m, with gradients as small.

    Args:
        num_tasks: M.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_tasks))
        self.shift = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, outputs: Tensor, group_task: Tensor) -> Tensor:
        """Y from the outputs (G, R) of f, for groups of the tasks group_task (G,)."""
        scale, shift = (of_tasks(parameter, group_task).unsqueeze(1) for parameter in (self.scale, self.shift))
        return outputs * scale + shift

    @torch.no_grad()
    def rescale(self, ratio: Tensor, offset: Tensor) -> None:
        """Every y of a task becomes ratio · y + offset, (M,) each."""
        self.scale.mul_(ratio)
        self.shift.mul_(ratio).add_(offset)
