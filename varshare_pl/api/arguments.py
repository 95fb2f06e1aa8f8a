"""What is given in Python as the command line's arguments, so that both are checked by the same code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.study.values import arguments
from varshare_pl.yaml_files import dump

Config = str | Path | Mapping[str, Any]
FILE = "config.yaml"


def option_arguments(options: Mapping[str, Any] | None) -> list[str]:
    """Options by the names that they have on the command line, such as "data.num_envs".

    Raises:
        ConfigError: for a value that no config file could hold.
    """
    found: list[str] = []
    for key, value in (options or {}).items():
        try:
            found += arguments({str(key): _plain(value)})
        except yaml.representer.RepresenterError:
            what = "a number, a text, None, or a list or dict of those is"
            raise ConfigError(f"{key}: {value!r} is not allowed; {what}") from None
    return found


def method_arguments(method: str | Path | None) -> list[str]:
    """The config of a method: the shipped one of that name, or a file."""
    if method is None:
        return []
    return ["--config", str(method) if user_path(method).is_file() else f"methods/{method}"]


@contextmanager
def config_arguments(config: Config) -> Iterator[list[str]]:
    """A config by name or path; one in a dict is a file while the context lasts, which no message names."""
    if not isinstance(config, Mapping):
        yield ["--config", str(config)]
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        try:
            path.write_text(dump(_plain(config)), encoding="utf-8")
        except yaml.representer.RepresenterError as error:
            raise ConfigError(f"config: {error.args[-1]!r} is not allowed; what a config file can hold is") from None
        try:
            yield ["--config", str(path)]
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(path), "config")) from error


def _plain(value: Any) -> Any:
    """A value with paths as text, within lists and dicts too."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
