"""What comes from the library torchjd (SimplexLab, https://torchjd.org), which is an optional dependency."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from varshare_pl.combiners.base import GradientRule, TaskGradients
from varshare_pl.errors import ConfigError

NEGLIGIBLE = 1e-18  # of the size of all gradients together


def load(module: str, *needs: str) -> Any:
    """A module of torchjd.

    Args:
        module: "aggregation" or "scalarization".
        needs: Other packages that must be there.

    Raises:
        ConfigError: naming the extra that is not installed.
    """
    for package in ("torchjd", *needs):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f'model.combiner: needs the package {package}; pip install "varshare-pl[combiners]" installs it'
            ) from error
    return importlib.import_module(f"torchjd.{module}")


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draws from torch's global generator of the CPU depend on seed inside, and the generator is left as it was."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def at_unit_size(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (K, P) divided by their size, and the size, a scalar; zeros where they are zeros.

    torchjd's tolerances are absolute: its CAGrad would give 0 for a gradient of 0.01. The size is taken in float64,
    where no square overflows; what is so small that its square would vanish becomes 0, for a division by that is NaN.
    """
    size = torch.linalg.matrix_norm(gradients, dtype=torch.float64)
    unit = (gradients / size).nan_to_num(0.0)
    return torch.where(unit.abs() < NEGLIGIBLE, 0.0, unit), size


class Aggregated(GradientRule):
    """An aggregator of torchjd, one without state, given the gradients at unit size.

    Args:
        aggregator: From (K, P) to (P,), in proportion.
        sums: Whether it gives the sum over tasks where tasks agree; else their mean.
    """

    def __init__(self, aggregator: Callable[[Tensor], Tensor], sums: bool = False) -> None:
        self._aggregator = aggregator
        self._sums = sums

    def combine(self, given: TaskGradients) -> Tensor:
        unit, size = at_unit_size(given.gradients)
        if not bool(unit.any()):
            return torch.zeros_like(given.gradients[0])
        with torch.no_grad(), drawing(given.seed):
            combined: Tensor = self._aggregator(unit) * size
        return combined / len(given.tasks) if self._sums else combined
