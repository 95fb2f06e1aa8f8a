"""Reading a study's file: YAML in which nothing is lost, and values that are checked one by one."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from varshare_pl.errors import ConfigError

LARGEST_SEED = 2**32 - 1


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key given twice, where it would keep the last one only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)
        twice = [key for key, count in keys.items() if count > 1]
        if twice:
            raise ConfigError(f"{twice[0]}: given twice, the second time before line {node.end_mark.line + 1}")
        return super().construct_mapping(node, deep)


# "5e-3" is a number in YAML 1.2 and for the parser of `varshare fit`, and text for PyYAML.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        ConfigError: if it cannot be read, is no YAML, has a key twice, or holds something else.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise ConfigError(f"{path} is not valid YAML: {getattr(error, 'problem', 'bad characters')}{where}") from error
    except ConfigError as error:
        raise ConfigError(f"{error} ({path})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no study; keys such as suites, methods and seeds are needed")
    return {str(key): value for key, value in content.items()}


def refuse(key: str, value: Any, allowed: str) -> ConfigError:
    """The error for a value that is not allowed."""
    return ConfigError(f"{key}: {option_text(value)} is not allowed; {allowed}")


def check_keys(content: Collection[str], allowed: Collection[str], section: str = "") -> None:
    """See that all keys of a section are known.

    Raises:
        ConfigError: naming the first that is not.
    """
    for key in content:
        if key not in allowed:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {section}{close[0]}?" if close else f"{', '.join(allowed)} are allowed"
            raise ConfigError(f"{section}{key}: unknown key; {hint}")


def mapping(value: Any, key: str) -> dict[str, Any]:
    """A section; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(key, value, "keys with values are")
    return {str(name): item for name, item in value.items()}


def texts(value: Any, key: str) -> tuple[str, ...]:
    """One text or a list of texts."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, str) for item in listed):
        raise refuse(key, value, "a text or a list of texts is")
    return tuple(listed)


def text(value: Any, key: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise refuse(key, value, "a text is")
    return value


def integer(value: Any, key: str, least: int = 1) -> int:
    """An integer of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise refuse(key, value, f"an integer of at least {least} is")
    return value


def positive(value: Any, key: str) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise refuse(key, value, "a positive number is")
    return value


def one_of(value: Any, key: str, choices: Collection[str]) -> str:
    """One of several words."""
    if value not in choices:
        raise refuse(key, value, f"{' or '.join(choices)} is")
    return str(value)


def label(value: Any, key: str) -> str:
    """A name that can be one of a folder."""
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w.+-]*", value):
        raise refuse(key, value, "letters, digits and . _ + - are")
    return value


def seeds(value: Any, key: str) -> tuple[int, ...]:
    """Seeds from 7, "1-10", "1-3, 7" or a list of such.

    Raises:
        ConfigError: for anything else, and for a seed given twice.
    """
    found: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        for part in str(item).split(",") if isinstance(item, str | int) and not isinstance(item, bool) else [""]:
            ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if ends is None:
                raise refuse(key, value, "seeds as 1-10 or [1, 2, 5-7] are")
            first, last = int(ends[1]), int(ends[2] or ends[1])
            if last < first or last > LARGEST_SEED:
                raise refuse(key, part.strip(), f"from small to large, at most {LARGEST_SEED}, is")
            found += range(first, last + 1)
    twice = [seed for seed, count in Counter(found).items() if count > 1]
    if twice:
        raise ConfigError(f"{key}: seed {twice[0]} is given twice; each seed once is allowed")
    if not found:
        raise refuse(key, value, "at least one seed is needed")
    return tuple(found)


def option_text(value: Any) -> str:
    """A value as it stands on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as they stand on a command line."""
    args: list[str] = []
    for key, value in options.items():
        shown = option_text(value)
        args += [f"--{key}={shown}"] if shown.startswith("-") else [f"--{key}", shown]
    return args
