"""Sharing methods. Every module in this folder is imported, so a new method is one new file here."""

import importlib
import pkgutil
from typing import Any

from varshare_pl.networks.gaussian import FlipoutNoise, LocalNoise
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import (
    LayerSpec,
    LinearWeights,
    Noise,
    NoiseShape,
    PenalisedLayer,
    TaskLinear,
    VariationalLayer,
)
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskMLP, TaskNetwork
from varshare_pl.sharing.independent import Independent, IndependentLinear
from varshare_pl.sharing.shared import Shared, SharedLinear
from varshare_pl.sharing.shared_onehot import OneHotLinear, SharedOneHot
from varshare_pl.sharing.varshare import VarShare, VarShareLinear

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def method_names() -> dict[str, type[SharingMethod]]:
    """The methods by their short names, those defined outside this package included once they are imported."""
    return {cls.name: cls for cls in _subclasses(SharingMethod) if "name" in cls.__dict__}


def _subclasses(cls: type) -> list[type[SharingMethod]]:
    direct: list[Any] = cls.__subclasses__()
    return direct + [deeper for sub in direct for deeper in _subclasses(sub)]


__all__ = [
    "FlipoutNoise",
    "Independent",
    "IndependentLinear",
    "LayerSpec",
    "LinearWeights",
    "LocalNoise",
    "NetworkSpec",
    "Noise",
    "NoiseShape",
    "OneHotLinear",
    "PenalisedLayer",
    "Shared",
    "SharedLinear",
    "SharedOneHot",
    "SharingMethod",
    "TaskLinear",
    "TaskMLP",
    "TaskNetwork",
    "VarShare",
    "VarShareLinear",
    "VariationalLayer",
    "method_names",
    "orthogonal",
]
