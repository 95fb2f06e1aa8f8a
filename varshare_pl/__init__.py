"""Variational parameter sharing for multi-task deep RL, on PyTorch Lightning.

Importing the package registers its Gymnasium ids; it loads neither torch nor Lightning.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

from varshare_pl.envs.registration import register_envs

try:
    __version__ = metadata.version("varshare-pl")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

register_envs()

if TYPE_CHECKING:
    from varshare_pl.trained.policy import TrainedPolicy, load_policy

__all__ = ["TrainedPolicy", "__version__", "load_policy"]


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first asked for."""
    if name not in ("TrainedPolicy", "load_policy"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from varshare_pl.trained import policy

    return getattr(policy, name)
