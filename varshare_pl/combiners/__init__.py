"""Gradient combiners. Every module in this folder is imported, so a new combiner is one new file here."""

from varshare_pl.combiners.base import (
    CombinerSpec,
    GradientCombiner,
    GradientRule,
    LossRule,
    TaskGradients,
)
from varshare_pl.discovery import import_modules, named_subclasses

import_modules(__name__, __path__)


def combiner_names() -> dict[str, type[GradientCombiner]]:
    """The combiners by their short names, those defined outside this package included once they are imported."""
    return named_subclasses(GradientCombiner)


__all__ = [
    "CombinerSpec",
    "GradientCombiner",
    "GradientRule",
    "LossRule",
    "TaskGradients",
    "combiner_names",
]
