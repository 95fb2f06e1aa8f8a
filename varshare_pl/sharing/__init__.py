"""Sharing methods. Every module in this folder is imported, so a new method is one new file here."""

import importlib
import pkgutil
from typing import Any

from varshare_pl.sharing.base import LayerSpec, Noise, Prepared, TaskLinear
from varshare_pl.sharing.gaussian import FlipoutNoise, LocalNoise
from varshare_pl.sharing.independent import Independent, IndependentLinear
from varshare_pl.sharing.method import SharingMethod
from varshare_pl.sharing.shared import Shared, SharedLinear
from varshare_pl.sharing.shared_onehot import OneHotLinear, SharedOneHot
from varshare_pl.sharing.torso import MLPTorso, Torso, TorsoSpec
from varshare_pl.sharing.varshare import VarShare
from varshare_pl.sharing.varshare_linear import VarShareLinear

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
    "LocalNoise",
    "MLPTorso",
    "Noise",
    "OneHotLinear",
    "Prepared",
    "Shared",
    "SharedLinear",
    "SharedOneHot",
    "SharingMethod",
    "TaskLinear",
    "Torso",
    "TorsoSpec",
    "VarShare",
    "VarShareLinear",
    "method_names",
]
