"""Variational parameter sharing for multi-task deep RL, on PyTorch Lightning.

Importing the package registers its Gymnasium ids; it loads neither torch nor Lightning.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from varshare_pl.envs.registration import register_envs

try:
    __version__ = metadata.version("varshare-pl")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

register_envs()

if TYPE_CHECKING:
    from varshare_pl.api.run import Run, load_run, train
    from varshare_pl.api.study import Study
    from varshare_pl.trained.policy import TrainedPolicy, load_policy

__all__ = ["Run", "Study", "TrainedPolicy", "__version__", "load_policy", "load_run", "train"]

_HOMES = {
    **dict.fromkeys(("Run", "load_run", "train"), "varshare_pl.api.run"),
    "Study": "varshare_pl.api.study",
    **dict.fromkeys(("TrainedPolicy", "load_policy"), "varshare_pl.trained.policy"),
}


def __getattr__(name: str) -> Any:
    """Load a part of the package when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
