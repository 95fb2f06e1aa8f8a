"""Shipped configs by name, from a checkout or an installed wheel."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path

STUDIES, OTHERS = "studies/", ("studies/", "tuned/", "sweeps/")  # folders of files that are no configs of a run
_PACKAGE = Path(__file__).resolve().parents[1]

MANY = 10  # names that a message lists


def configs_folder() -> Path:
    """Where the shipped configs are: inside the package once installed, beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Shipped configs by name, e.g. "complex_cartpole", "experiments/complex_serial", "methods/independent"."""
    return {name: path for name, path in _shipped().items() if not name.startswith(OTHERS)}


def shipped_studies() -> dict[str, Path]:
    """Shipped studies by name, e.g. "sharing"."""
    return {name.removeprefix(STUDIES): path for name, path in _shipped().items() if name.startswith(STUDIES)}


def _shipped() -> dict[str, Path]:
    folder = configs_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def resolve_study(value: str) -> Path:
    """The file that names a study: a path, or the name of a shipped study.

    Raises:
        ConfigError: if it is neither.
    """
    if (path := user_path(value)).is_file():
        return path
    shipped = shipped_studies()
    name = value.removesuffix(".yaml").removeprefix("configs/").removeprefix(STUDIES)
    if name not in shipped:
        raise ConfigError(f"study: {value} is neither a file nor a shipped study; shipped are {', '.join(shipped)}")
    return shipped[name]


def resolve_config(value: str) -> str:
    """The file that a ``--config`` value means: a path, or the name of a shipped config.

    Raises:
        ConfigError: if it is neither.
    """
    if (path := user_path(value)).is_file():
        return str(path)
    shipped = shipped_configs()
    name = value.removesuffix(".yaml").removeprefix("configs/")
    if name in shipped:
        return str(shipped[name])
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f"did you mean {close[0]}?" if close else f"shipped are {_by_folder(shipped)}"
    raise ConfigError(f"--config: {value} is neither a file nor a shipped config; {hint}")


def _by_folder(names: Iterable[str]) -> str:
    """Names in a line, those of a folder together, of many the first: ``cartpole, methods/{film, shared}``."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        folders.setdefault(folder, []).append(last)
    lists = {folder: ", ".join([*last[:MANY], "…"] if len(last) > MANY else last) for folder, last in folders.items()}
    return ", ".join(f"{folder}/{{{last}}}" if folder else last for folder, last in lists.items())


def with_shipped_configs(args: list[str]) -> list[str]:
    """The arguments with every ``--config`` value resolved to a file."""
    resolved = list(args)
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if equals:
            resolved[i] = f"{flag}={resolve_config(value)}"
        elif i + 1 < len(args):
            resolved[i + 1] = resolve_config(args[i + 1])
    return resolved
