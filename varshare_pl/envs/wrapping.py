"""Wrappers of a user's choice around an env, by import path."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from varshare_pl.errors import ConfigError


@dataclass(frozen=True)
class WrapperSpec:
    """A wrapper as data.

    Attributes:
        path: Import path of a subclass of ``gymnasium.Wrapper``.
        kwargs: Its arguments behind the env.
    """

    path: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def put_around(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The env inside the wrapper.

        Raises:
            ConfigError: if the wrapper cannot be imported, or raises.
        """
        wrapper = wrapper_class(self.path, "wrappers")
        try:
            wrapped: gym.Env[Any, Any] = wrapper(env, **self.kwargs)
        except Exception as error:  # whatever a foreign constructor raises
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ConfigError(f"wrappers: {self.path} with {self.kwargs} raised {text}") from error
        return wrapped


def parse_wrappers(given: Any, where: str) -> tuple[WrapperSpec, ...]:
    """Wrappers as a user writes them: a list of import paths, or of one path with its arguments each.

    Args:
        given: From a config.
        where: The key, for errors.

    Raises:
        ConfigError: for the first one that is not a wrapper.
    """
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{where}={given!r}: must be a list of import paths, each alone or with its arguments")
    specs = []
    for i, entry in enumerate(given):
        pairs = list(entry.items()) if isinstance(entry, Mapping) else [(entry, None)]
        path, kwargs = pairs[0] if len(pairs) == 1 else (entry, None)
        kwargs = {} if kwargs is None else kwargs
        if not isinstance(path, str):
            raise ConfigError(f"{where}[{i}]={entry!r}: must be an import path, or one path with its arguments")
        if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
            raise ConfigError(f"{where}[{i}].{path}={kwargs!r}: must be a dict with strings as keys")
        wrapper_class(path, f"{where}[{i}]")
        specs.append(WrapperSpec(path, dict(kwargs)))
    return tuple(specs)


def wrapper_class(path: str, where: str) -> Any:
    """The class behind an import path; nothing else is ever called, for a config may come from anywhere.

    Raises:
        ConfigError: if it cannot be imported, or is no wrapper.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a foreign module may raise anything
        text = " ".join(str(error).split())
        raise ConfigError(f"{where}: {path!r} cannot be imported: {text}") from error
    if not (isinstance(found, type) and issubclass(found, gym.Wrapper)):
        raise ConfigError(f"{where}: {path!r} is not allowed; a subclass of gymnasium.Wrapper is")
    return found
