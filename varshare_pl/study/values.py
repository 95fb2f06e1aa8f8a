"""Reading a study's file: what is text in it, and values that are checked one by one."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.yaml_files import KEYS, SUITE_NAMES, Texts, dump, read_yaml

LARGEST_SEED = 2**32 - 1
_SEED = r"(0|[1-9]\d*)"

_SUITES = tuple(("data.suite", *place) for place in SUITE_NAMES)
TEXTS = Texts(
    values=(
        *(("tuned",), ("configs",), ("configs", "*")),
        *(
            (axis, *below)
            for axis in ("suites", "methods")
            for below in (("*",), ("*", "configs"), ("*", "configs", "*"))
        ),
        *(("seeds",), ("seeds", "*"), ("tune", "seeds"), ("tune", "seeds", "*")),  # 1:10 and 010 are no numbers there
        *(("slurm", "partition"), ("slurm", "setup"), ("slurm", "setup", "*"), ("slurm", "options", "*")),
        ("ray", "address"),
        *(
            place
            for suite in _SUITES
            for place in (("overrides", *suite), ("suites", "*", *suite), ("methods", "*", *suite))
        ),
        *(("grid", "data.suite", "*", *place) for place in SUITE_NAMES),
    ),
    names=(
        *(("name",), ("description",), ("suites", KEYS), ("methods", KEYS), ("reference",), ("report", "order", "*")),
        *(("report", "names", KEYS), ("report", "names", "*"), ("report", "colors", KEYS), ("report", "colors", "*")),
    ),
)


def read_study_file(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        ConfigError: if it cannot be read, is no YAML, has a key twice, or holds something else.
    """
    content = read_yaml(path, texts=TEXTS)
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
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0 or value < least:
        raise refuse(key, value, f"an integer of at least {least} is")
    return int(value)


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
    """Seeds from "1-10", "1-3, 7" or a list of such.

    Raises:
        ConfigError: for anything else, for a seed given twice, and for one number above 1: as many seeds may be meant.
    """
    if re.fullmatch(r"[2-9]|[1-9]\d+", str(value).strip()):
        raise refuse(key, value, f"[{value}] (this seed alone) or 1-{value} (so many seeds) is")
    found: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        for part in str(item).split(",") if isinstance(item, str | int) and not isinstance(item, bool) else [""]:
            ends = re.fullmatch(rf"\s*{_SEED}\s*(?:-\s*{_SEED}\s*)?", part)
            if ends is None:
                raise refuse(key, value, "seeds without leading zeros, as 1-10 or [1, 2, 5-7], are")
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
    if isinstance(value, str) or (isinstance(value, float) and isfinite(value)):
        return str(value)
    return dump(value, flow=True)


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as they stand on a command line."""
    args: list[str] = []
    for key, value in options.items():
        shown = option_text(value)
        args += [f"--{key}={shown}"] if shown.startswith("-") else [f"--{key}", shown]
    return args
