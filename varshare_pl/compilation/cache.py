"""Where machine code is kept between processes, what it depends on, and the compiler that makes it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path


def cache_dir() -> Path:
    """Where compiled functions are kept: $VARSHARE_CACHE, else varshare/ in the user's cache folder."""
    if named := os.environ.get("VARSHARE_CACHE"):
        return user_path(named)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "varshare"


def machine() -> str:
    """What machine code for the CPU is made for: one CPU's code may not run on another that shares the home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        features = platform.processor() + torch.backends.cpu.get_cpu_capability()
    else:
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{torch.__version__} {platform.machine()} {features}"


def no_compiler() -> ConfigError:
    """The error of a machine without a C++ compiler."""
    return ConfigError(
        "model.compile: needs a C++ compiler, and torch found none that works; install g++ or clang++, or name one in "
        "the environment variable CXX"
    )
