"""The argument parser: short names for sharing methods and gradient combiners, and errors in one line."""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, set_dumper, set_loader
from jsonargparse.typing import NonNegativeInt, PositiveInt, register_type
from lightning.pytorch.cli import LightningArgumentParser

from varshare_pl.cli.help import HelpFormatter
from varshare_pl.cli.messages import one_line, unknown_key, unknown_option
from varshare_pl.combiners import GradientCombiner, combiner_names
from varshare_pl.earlier import old_option
from varshare_pl.envs import GymTask, SuiteMapping
from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.sharing import SharingMethod, method_names
from varshare_pl.yaml_files import dump, load

MODE = "varshare_yaml"
PATHS = ("logs_dir", "ckpt_path", "init_from")


@dataclass(frozen=True)
class Choice:
    """An option whose value is an object that the user chooses by a short name or a class path."""

    key: str  # as "model.sharing"
    base: type
    names: Callable[[], Mapping[str, type]]  # the classes by their short names
    what: str  # in words
    optional: bool = False  # whether null is allowed

    @property
    def flags(self) -> tuple[str, ...]:
        """On the command line."""
        return f"--{self.key}", f"--{self.key}.class_path", f"--{self.key}.help"

    @property
    def allowed(self) -> str:
        """The short names."""
        return ", ".join(sorted(self.names()))


CHOICES = (
    Choice("model.sharing", SharingMethod, method_names, "sharing method"),
    Choice("model.combiner", GradientCombiner, combiner_names, "gradient combiner", optional=True),
)
_BY_NAME = {choice.key.rpartition(".")[2]: choice for choice in CHOICES}


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


def expand_names(value: Any, section: str = "model") -> Any:
    """A config, or its section ``model``, with short names, such as ``sharing: varshare``, replaced by class paths."""
    if not isinstance(value, dict):
        return value
    chosen = {key: _chosen(_BY_NAME[key], item) if key in _BY_NAME else item for key, item in value.items()}
    return chosen | {section: expand_names(chosen[section], "")} if section in chosen else chosen


def _chosen(choice: Choice, value: Any) -> Any:
    """The value of an option with a class path in place of a short name.

    Raises:
        ConfigError: if it has another form.
    """
    if value is None and choice.optional:
        return None
    if isinstance(value, str):
        return {"class_path": class_path(choice, value)}
    if not isinstance(value, dict):
        shown = "null" if value is None else value
        raise ConfigError(f"{choice.key}: {shown} is not allowed; {choice.allowed}, or class_path with init_args is")
    name = value.get("class_path")
    if name is None:
        return value
    if not isinstance(name, str):
        raise ConfigError(f"{choice.key}.class_path: {name} is not allowed; {choice.allowed} is")
    extra = sorted(map(str, value.keys() - {"class_path", "init_args"}))
    if extra:
        raise ConfigError(f"{choice.key}.{extra[0]}: unknown key; class_path and init_args are allowed")
    init_args = value.get("init_args")
    if init_args is not None and not isinstance(init_args, dict):
        raise ConfigError(f"{choice.key}.init_args: {init_args} is not allowed; keys with values are")
    path = class_path(choice, name)
    if path.rpartition(".")[2] == "VarShare" and (option := old_option(init_args or {})):
        raise ConfigError(unknown_option(choice.key, option))
    return {**value, "class_path": path}


def class_path(choice: Choice, name: str) -> str:
    """The class path of a short name; a class name or path stays as it is.

    Raises:
        ConfigError: for a name that no class has, or a path that leads to no such class.
    """
    classes = choice.names()
    if name in classes:
        return f"{classes[name].__module__}.{classes[name].__qualname__}"
    if "." not in name:
        if name in {cls.__name__ for cls in classes.values()}:
            return name
        close = difflib.get_close_matches(name.lower(), classes, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"{choice.key}: {name} is not a {choice.what}; {hint}{choice.allowed} are")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{choice.key}: {name} cannot be imported: {error}; {choice.allowed} are there") from error
    if not (isinstance(found, type) and issubclass(found, choice.base)):
        raise ConfigError(f"{choice.key}: {name} is not a subclass of {choice.base.__name__}")
    return name


def expand_arguments(args: list[str]) -> list[str]:
    """The same for the command line: ``--model.sharing varshare`` and ``--model.sharing.class_path=varshare``.

    ``--compile`` is short for ``--model.compile=true``.
    """
    expanded = list(args)
    flags = {flag: choice for choice in CHOICES for flag in choice.flags}
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag.startswith("--data.suite."):
            raise ConfigError(f"{flag}: not an option; --data.suite takes a whole suite, such as '{{name: CartPole}}'")
        if arg == "--compile":
            expanded[i] = "--model.compile=true"
        if flag in flags and equals:
            expanded[i] = f"{flag}={_argument(flags[flag], value)}"
        elif flag in flags and i + 1 < len(args) and not args[i + 1].startswith("-"):
            expanded[i + 1] = _argument(flags[flag], args[i + 1])
    return expanded


def parse_command(parser: LightningArgumentParser, args: list[str]) -> Namespace:
    """The config that a command line of ``fit`` or ``validate`` gives, its paths whole."""
    config = parser.parse_args(expand_arguments(args))
    assert isinstance(config, Namespace)
    for key in PATHS:
        given = config[args[0]][key]
        if given not in (None, "last"):
            config[args[0]][key] = str(user_path(given))
    return config


def _argument(choice: Choice, value: str) -> str:
    if value == "null" and choice.optional:
        return value
    if not value.lstrip().startswith("{"):
        return class_path(choice, value)
    try:
        return json.dumps(_chosen(choice, load(value)))
    except yaml.YAMLError as error:
        raise ConfigError(f"{choice.key}: {value} is not valid YAML") from error


def _load(stream: str) -> Any:
    return expand_names(load(stream))


def _whole(kind: type[int]) -> Callable[[Any], int]:
    """Reads integers of a kind, written as 1000, 1e3 or 1000.0."""

    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
            exact = Decimal(value)
            whole = abs(float(value)) < float("inf") and exact == exact.to_integral_value()
            value = int(exact) if whole else value
        return int(kind(value))  # of Python's own type: what a method makes of it may go anywhere

    return read


set_loader(MODE, _load, (yaml.YAMLError,))
set_dumper(MODE, dump)
for _kind in (PositiveInt, NonNegativeInt):
    register_type(_kind, int, _whole(_kind))
# Left as it is: for values of any type the parser would take the text "off" for false, again at each reading.
register_type(
    GymTask,
    serializer=lambda task: asdict(task) if isinstance(task, GymTask) else task,
    type_check=lambda value, _: isinstance(value, GymTask | dict),
)
register_type(SuiteMapping, serializer=dict, type_check=lambda value, _: isinstance(value, dict))
