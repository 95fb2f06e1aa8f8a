"""Paths as a person writes them."""

from __future__ import annotations

import os
from pathlib import Path

from varshare_pl.errors import ConfigError

HUB = "hf://"  # begins the address of a policy at Hugging Face, hf://owner/name


def user_path(given: Path | str) -> Path:
    """The path that is meant: ~ is the home folder. Every path of an option, a file or a variable comes through here.

    A shell replaces ~ only at the start of a word: in ``--logs_dir=~/runs``, in a config file and in Python it does
    not.

    Raises:
        ConfigError: for the home folder of nobody.
    """
    path = Path(os.path.expanduser(given))  # noqa: PTH111  # that of Path raises where a file is called ~x
    if str(path).startswith("~") and not path.exists():
        raise ConfigError(f"{given}: the folder {path.parts[0]} is not known; a path without ~ is allowed")
    return path
