"""Packages that a suite needs beside those that are always there."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec

from varshare_pl.errors import ConfigError


def need(package: str, extra: str, suite: str, load: bool = True) -> None:
    """See that a suite's package is there.

    Args:
        package: What is imported.
        extra: Of this project, which installs it.
        suite: What needs it.
        load: Whether to import it, or only look for it, where that takes long and other processes make the envs.

    Raises:
        ConfigError: naming the extra, if it cannot be imported.
    """
    try:
        if load:
            with warnings.catch_warnings(action="ignore"):  # Box2D's import does not survive one that is made an error
                importlib.import_module(package)
        elif find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}")
    except ImportError as error:
        raise ConfigError(
            f"suite={suite!r}: needs the package {package}, which cannot be imported ({error}); "
            f"pip install 'varshare-pl[{extra}]'"
        ) from error
