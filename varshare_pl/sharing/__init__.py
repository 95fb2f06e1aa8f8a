"""Sharing methods, and all that a method of one's own needs.

Every module in this folder is imported, so a new method is one new file here.
"""

from varshare_pl.discovery import import_modules, named_subclasses
from varshare_pl.networks.checks import check_count, check_positive
from varshare_pl.networks.gaussian import LocalNoise, deviations, kl_to_prior, mean_to_prior
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import (
    LayerSpec,
    LinearWeights,
    NewTask,
    Noise,
    NoiseShape,
    PenalisedLayer,
    TaskLinear,
    VariationalLayer,
    of_tasks,
)
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskMLP, TaskNetwork
from varshare_pl.sharing.independent import Independent, IndependentLinear
from varshare_pl.sharing.shared import Shared, SharedLinear
from varshare_pl.sharing.shared_onehot import OneHotLinear, SharedOneHot
from varshare_pl.sharing.varshare import VarShare, VarShareLinear

import_modules(__name__, __path__)


def method_names() -> dict[str, type[SharingMethod]]:
    """The methods by their short names, those defined outside this package included once they are imported."""
    return named_subclasses(SharingMethod)


__all__ = [
    "Independent",
    "IndependentLinear",
    "LayerSpec",
    "LinearWeights",
    "LocalNoise",
    "NetworkSpec",
    "NewTask",
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
    "check_count",
    "check_positive",
    "deviations",
    "kl_to_prior",
    "mean_to_prior",
    "method_names",
    "of_tasks",
    "orthogonal",
]
