"""Gradient combiners. Every module in this folder is imported, so a new combiner is one new file here."""

from varshare_pl.combiners.base import (
    CombinerSpec,
    GradientCombiner,
    GradientRule,
    LossRule,
    TaskGradients,
    combiner_names,
)
from varshare_pl.discovery import import_modules

import_modules(__name__, __path__)

__all__ = [
    "CombinerSpec",
    "GradientCombiner",
    "GradientRule",
    "LossRule",
    "TaskGradients",
    "combiner_names",
]
