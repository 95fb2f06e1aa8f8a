"""Classes that are found by being there: no list names them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def import_modules(package: str, paths: Iterable[str]) -> None:
    """Import every module of a package, given its name and its ``__path__``."""
    for module in pkgutil.iter_modules(paths):
        importlib.import_module(f"{package}.{module.name}")


def named_subclasses(base: type[T]) -> dict[str, type[T]]:
    """The imported subclasses that have a ``name`` of their own, at any depth, by it."""
    found: dict[str, type[T]] = {}
    for cls in base.__subclasses__():
        if "name" in cls.__dict__:
            found[cls.__dict__["name"]] = cls
        found |= named_subclasses(cls)
    return found
