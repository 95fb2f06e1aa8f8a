"""Gradient combiners. Every module in this folder is imported, so a new combiner is one new file here."""

import importlib
import pkgutil

from varshare_pl.combiners.base import (
    CombinerSpec,
    GradientCombiner,
    GradientRule,
    LossRule,
    TaskGradients,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def combiner_names() -> dict[str, type[GradientCombiner]]:
    """The combiners by their short names, those defined outside this package included once they are imported."""
    return {cls.name: cls for cls in _subclasses(GradientCombiner) if "name" in cls.__dict__}


def _subclasses(cls: type[GradientCombiner]) -> list[type[GradientCombiner]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]


__all__ = [
    "CombinerSpec",
    "GradientCombiner",
    "GradientRule",
    "LossRule",
    "TaskGradients",
    "combiner_names",
]
