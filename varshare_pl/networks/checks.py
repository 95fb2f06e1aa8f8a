"""Options of methods that must be numbers of a kind."""

from __future__ import annotations

import math

from varshare_pl.errors import ConfigError


def check_count(name: str, value: int) -> None:
    """Raise ConfigError if value is not a positive integer."""
    if value < 1:
        raise ConfigError(f"{name}: {value} is not allowed; a positive integer is")


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError if value is not a positive number."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name}: {value} is not allowed; a positive number is")
