"""Packages that a suite needs beside those that are always there."""

from __future__ import annotations

import importlib

from varshare_pl.errors import ConfigError


def need(package: str, extra: str, suite: str) -> None:
    """See that a suite's package is there.

    Args:
        package: What is imported.
        extra: Of this project, which installs it.
        suite: What needs it.

    Raises:
        ConfigError: naming the extra, if it cannot be imported.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"suite={suite!r}: needs the package {package}, which cannot be imported ({error}); "
            f"pip install 'varshare-pl[{extra}]'"
        ) from error
