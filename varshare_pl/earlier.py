"""What options of earlier versions have become, to be named where they are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = {  # options that varshare had, by the methods that took their place
    "rank": "varshare_low_rank",
    "learned_prior": "varshare_learned_prior",
    "noise_controller": "varshare_controlled_prior",
    "deterministic": "varshare_deterministic",
    "hyperprior": "varshare_learned_prior",  # last: it says nothing without the others
}
_SCOPES = {"true": "task", "false": "none"}
_VALUES = {
    "backend": {"async": "workers"},
    "normalize_observations": _SCOPES,
    "normalize_returns": {"running": "task", "popart": "task, with model.popart true"},
    "normalize_rewards": _SCOPES,
}


def old_option(init_args: Mapping[str, Any]) -> str | None:
    """The option of ``METHODS`` among varshare's that made it another method; one that is off if there is no other."""
    given = [name for name in METHODS if name in init_args]
    return next(iter([name for name in given if init_args[name]] + given), None)


def new_value(option: str, value: Any) -> str:
    """What is to be said of a value that was allowed once: how it is written now; nothing of others."""
    new = _VALUES.get(option, {}).get(str(value).lower())
    return f"; {value} has become {new}" if new else ""
