"""Variational parameter sharing for multi-task deep RL, on PyTorch Lightning.

Importing the package registers its Gymnasium ids; it loads neither torch nor Lightning.
"""

from importlib import metadata

from varshare_pl.envs.registration import register_envs

try:
    __version__ = metadata.version("varshare-pl")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

register_envs()

__all__ = ["__version__"]
