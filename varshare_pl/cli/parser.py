"""The argument parser: short names for sharing methods, and errors in one line."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import method_names

MODE = "varshare_yaml"


class VarShareParser(LightningArgumentParser):
    """LightningArgumentParser that reads short method names and fails with ``ConfigError``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"parser_mode": MODE, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(one_line(message)) from ex


def one_line(message: str) -> str:
    """The gist of a parser's message: the key, the value and what is allowed, without class paths and quotes of code."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", message)
    text = " ".join(text.split())
    text = re.sub(r"Validation failed: |Problem with given class_path [^:]*:|Parser key ", "", text)
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    return re.sub(r"varshare_pl(?:\.\w+)*\.(\w+)", r"\1", text)


def expand_method_names(value: Any) -> Any:
    """A config with short method names, ``sharing: varshare``, replaced by class paths."""
    if isinstance(value, list):
        return [expand_method_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _sharing(item) if key == "sharing" else expand_method_names(item) for key, item in value.items()}


def _sharing(value: Any) -> Any:
    if isinstance(value, str):
        return {"class_path": class_path(value)}
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return {**value, "class_path": class_path(value["class_path"])}
    return value


def class_path(name: str) -> str:
    """The class path of a method's short name; a class name or path stays as it is.

    Raises:
        ConfigError: for a name that no method has.
    """
    methods = method_names()
    if name in methods:
        return f"{methods[name].__module__}.{methods[name].__qualname__}"
    if "." not in name and name not in {cls.__name__ for cls in methods.values()}:
        raise ConfigError(f"model.sharing: {name} is not a sharing method; {', '.join(sorted(methods))} are")
    return name


def expand_method_arguments(args: list[str]) -> list[str]:
    """The same for the command line: ``--model.sharing varshare`` and ``--model.sharing.class_path=varshare``."""
    flags = ("--model.sharing", "--model.sharing.class_path")
    expanded = list(args)
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in flags and equals and not value.lstrip().startswith("{"):
            expanded[i] = f"{flag}={class_path(value)}"
        elif flag in flags and i + 1 < len(args) and not args[i + 1].lstrip().startswith(("{", "-")):
            expanded[i + 1] = class_path(args[i + 1])
    return expanded


def _load(stream: str) -> Any:
    return expand_method_names(get_loader("yaml")(stream))


set_loader(MODE, _load, (yaml.YAMLError,))
