"""The argument parser: short names for sharing methods, and errors in one line."""

from __future__ import annotations

import difflib
import importlib
import json
import re
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from varshare_pl.cli.help import HelpFormatter
from varshare_pl.cli.messages import one_line, unknown_key
from varshare_pl.errors import ConfigError
from varshare_pl.sharing import SharingMethod, method_names

MODE = "varshare_yaml"
_SHARING_FLAGS = ("--model.sharing", "--model.sharing.class_path", "--model.sharing.help")


class VarShareParser(LightningArgumentParser):
    """LightningArgumentParser that reads short method names and fails with ``ConfigError``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {"parser_mode": MODE, "allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(*args, **{**own, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if key := re.search(r"does not accept option '([\w.]+)'", message):
            raise ConfigError(unknown_key(key[1], self.keys())) from ex
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            raise ConfigError(one_line(message)) from ex
        name = unknown.split()[0].partition("=")[0]
        if not name.startswith("--"):
            raise ConfigError(f"{unknown.split()[0]}: not an option; options begin with --") from ex
        raise ConfigError(unknown_key(name[2:], self.keys(), "--")) from ex

    def keys(self) -> set[str]:
        """The keys of all options, as "model.kl_weight", those of subcommands included, without those of sections."""
        parsers = [self, *(getattr(self._subcommands_action, "choices", None) or {}).values()]
        keys = {action.dest for parser in parsers for action in parser._actions if action.option_strings}
        keys = {key for key in keys if key.rpartition(".")[2] != "help"}
        return {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}


def plain(value: Any) -> Any:
    """A number of Python's own type: the parser's PositiveFloat and the like would go into checkpoints as classes."""
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(value) if isinstance(value, float) else int(value)


def expand_method_names(value: Any) -> Any:
    """A config with short method names, ``sharing: varshare``, replaced by class paths."""
    if isinstance(value, list):
        return [expand_method_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _sharing(item) if key == "sharing" else expand_method_names(item) for key, item in value.items()}


def _sharing(value: Any) -> Any:
    """The value of ``model.sharing`` with a class path in place of a short name.

    Raises:
        ConfigError: if it has another form.
    """
    if isinstance(value, str):
        return {"class_path": class_path(value)}
    if not isinstance(value, dict):
        shown = "null" if value is None else value
        raise ConfigError(f"model.sharing: {shown} is not allowed; {_methods()}, or class_path with init_args is")
    name = value.get("class_path")
    if name is None:
        return value
    if not isinstance(name, str):
        raise ConfigError(f"model.sharing.class_path: {name} is not allowed; {_methods()} is")
    extra = sorted(map(str, value.keys() - {"class_path", "init_args"}))
    if extra:
        raise ConfigError(f"model.sharing.{extra[0]}: unknown key; class_path and init_args are allowed")
    init_args = value.get("init_args")
    if init_args is not None and not isinstance(init_args, dict):
        raise ConfigError(f"model.sharing.init_args: {init_args} is not allowed; keys with values are")
    return {**value, "class_path": class_path(name)}


def _methods() -> str:
    return ", ".join(sorted(method_names()))


def class_path(name: str) -> str:
    """The class path of a method's short name; a class name or path stays as it is.

    Raises:
        ConfigError: for a name that no method has, or a path that leads to no method.
    """
    methods = method_names()
    if name in methods:
        return f"{methods[name].__module__}.{methods[name].__qualname__}"
    if "." not in name:
        if name in {cls.__name__ for cls in methods.values()}:
            return name
        close = difflib.get_close_matches(name.lower(), methods, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"model.sharing: {name} is not a sharing method; {hint}{_methods()} are")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"model.sharing: {name} cannot be imported: {error}; {_methods()} are there") from error
    if not (isinstance(found, type) and issubclass(found, SharingMethod)):
        raise ConfigError(f"model.sharing: {name} is not a subclass of SharingMethod")
    return name


def expand_method_arguments(args: list[str]) -> list[str]:
    """The same for the command line: ``--model.sharing varshare`` and ``--model.sharing.class_path=varshare``.

    ``--compile`` is short for ``--model.compile=true``.
    """
    expanded = list(args)
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if arg == "--compile":
            expanded[i] = "--model.compile=true"
        if flag in _SHARING_FLAGS and equals:
            expanded[i] = f"{flag}={_argument(value)}"
        elif flag in _SHARING_FLAGS and i + 1 < len(args) and not args[i + 1].startswith("-"):
            expanded[i + 1] = _argument(args[i + 1])
    return expanded


def _argument(value: str) -> str:
    if not value.lstrip().startswith("{"):
        return class_path(value)
    try:
        return json.dumps(_sharing(yaml.safe_load(value)))
    except yaml.YAMLError as error:
        raise ConfigError(f"model.sharing: {value} is not valid YAML") from error


def _load(stream: str) -> Any:
    return expand_method_names(get_loader("yaml")(stream))


set_loader(MODE, _load, (yaml.YAMLError,))
