"""Reading and writing YAML: all configs, study files and saved configs pass through here, so they mean the same."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from varshare_pl.errors import ConfigError

KEYS = "<keys>"
Place = tuple[str, ...]  # keys from the top; * for any key or item, KEYS for the keys of a section


class Texts(NamedTuple):
    """Where plain values are text, in quotes or not.

    Attributes:
        values: There null is nothing, and all else is text.
        names: There null is text as well.
    """

    values: tuple[Place, ...] = ()
    names: tuple[Place, ...] = ()


# In a suite: names of the tasks in a list, of a suite, and of its tasks.
SUITE_NAMES: tuple[Place, ...] = (("*", "name"), ("name",), ("tasks", "*", "name"))
CONFIG = Texts(
    values=(
        ("experiment",),
        ("logs_dir",),
        *(("data", "suite", *place) for place in SUITE_NAMES),
        *(("suite", *place) for place in SUITE_NAMES),  # a file with the section data
        *SUITE_NAMES,  # a suite on the command line
    )
)
"""In a config ``name: on`` is the name "on"."""

_TAG = "tag:yaml.org,2002:"
_UNCLEAR = "!unclear"
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_UNCLEAR_NUMBER = re.compile(r"^[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)$")


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What plain values are: as in YAML 1.1, but 1e3 is a number, dates are text, and 010 and 1:40 are unclear."""
    numbers = "-+.0123456789"
    kept: dict[str, list[tuple[str, re.Pattern[str]]]] = {
        first: [(tag, pattern) for tag, pattern in found if tag not in (f"{_TAG}float", f"{_TAG}timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in numbers:
        kept[first] = [(_UNCLEAR, _UNCLEAR_NUMBER), (f"{_TAG}float", _FLOAT), *kept.get(first, [])]
    return kept


class _Loader(yaml.CSafeLoader):
    """Safe loader that refuses what another reader would take for something else, or would lose.

    Args:
        text: The YAML.
        source: The file it came from, for errors.
        texts: Where plain values are text.
    """

    yaml_implicit_resolvers = _resolvers()

    def __init__(self, text: str, source: str, texts: Texts) -> None:
        super().__init__(text)
        self._source = source
        self._texts = texts
        self._open: list[yaml.Node] = []
        self._seen: set[int] = set()

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if isinstance(node, yaml.ScalarNode) and node.tag == _UNCLEAR:
            node.tag = f"{_TAG}str"  # one value of the command line, which its option judges
        elif node is not None:
            self._check(node, ())
        return node

    def _check(self, node: yaml.Node, place: Place) -> None:
        """Go through a node and all below it."""
        if any(node is other for other in self._open):
            raise self._refused(node, place, "holds itself; plain values are allowed")
        if isinstance(node, yaml.ScalarNode):
            if self._is_text(node, place):
                node.tag = f"{_TAG}str"
            if node.tag == _UNCLEAR:
                raise self._refused(node, place, f"{node.value} is not allowed; {_readings(node.value)} is")
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        self._open.append(node)
        for child, below in self._children(node, place):
            self._check(child, below)
        self._open.pop()

    def _is_text(self, node: yaml.ScalarNode, place: Place) -> bool:
        if node.tag == f"{_TAG}merge":
            return False
        if node.tag == f"{_TAG}null":
            return bool(node.value.strip("~")) and _matches(place, self._texts.names)
        return _matches(place, (*self._texts.values, *self._texts.names))

    def _children(self, node: yaml.Node, place: Place) -> Iterator[tuple[yaml.Node, Place]]:
        if isinstance(node, yaml.SequenceNode):
            yield from ((item, (*place, f"[{k}]")) for k, item in enumerate(node.value))
        if isinstance(node, yaml.MappingNode):
            lines: dict[Hashable, int] = {}
            for key, value in node.value:
                below = place if key.tag == f"{_TAG}merge" else (*place, str(key.value))
                self._check(key, (*place, KEYS))
                self._check_new(key, lines, below)
                yield value, below

    def _check_new(self, key: yaml.Node, lines: dict[Hashable, int], place: Place) -> None:
        """See that a key of a mapping is not there before."""
        if not isinstance(key, yaml.ScalarNode):
            return
        value = "<<" if key.tag == f"{_TAG}merge" else self.construct_object(key)
        line = key.start_mark.line + 1
        if value in lines:
            where = f"first in line {lines[value]}" if lines[value] != line else "in one line"
            hint = "; <<: [*a, *b] merges several" if value == "<<" else ""
            raise self._refused(
                key, (*place, "<<") if value == "<<" else place, f"given twice, {where}; once is allowed{hint}"
            )
        lines[value] = line

    def _refused(self, node: yaml.Node, place: Place, problem: str) -> ConfigError:
        where = f" ({self._source}, line {node.start_mark.line + 1})" if self._source else ""
        key = ".".join(str(node.value) if part == KEYS else part for part in place).replace(".[", "[")
        return ConfigError(f"{key}: {problem}{where}")


class _Dumper(yaml.SafeDumper):
    """Safe dumper that puts in quotes what ``_Loader`` would not take for text."""

    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True  # a list that stands in two places is written twice


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Escaped and in one line where it holds line breaks, those included that PyYAML writes and then reads as others.
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(value))
_Dumper.add_multi_representer(int, lambda dumper, value: dumper.represent_int(int(value)))  # a parser's PositiveInt
_Dumper.add_multi_representer(float, lambda dumper, value: dumper.represent_float(float(value)))


def load(text: str, source: str = "", texts: Texts = CONFIG) -> Any:
    """What YAML says.

    Args:
        text: The YAML.
        source: The file it came from, for errors.
        texts: Where plain values are text.

    Raises:
        ConfigError: for a key given twice, an unclear number, or a value that holds itself.
        yaml.YAMLError: if it is no YAML.
    """
    loader = _Loader(text, source, texts)
    try:
        return loader.get_single_data()
    except (ConfigError, yaml.YAMLError):
        raise
    except RecursionError:
        raise ConfigError(f"{source or 'the value'}: nested too deeply") from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:  # of a tag whose value is not of that kind
        raise yaml.constructor.ConstructorError(problem=f"a tag that does not fit its value ({error})") from error
    finally:
        loader.dispose()


def read_yaml(path: Path | str, option: str = "", texts: Texts = CONFIG) -> Any:
    """What a YAML file says.

    Args:
        path: The file.
        option: What names it, as "--config", for errors.
        texts: Where plain values are text.

    Raises:
        ConfigError: if it cannot be read or is no YAML, and as ``load`` does.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_named(path, option)} cannot be read as text ({type(error).__name__})") from error
    return parse_yaml(text, str(path), option, texts)


def parse_yaml(text: str, source: str, option: str = "", texts: Texts = CONFIG) -> Any:
    """What the text of a YAML file says; ``read_yaml`` tells of the arguments and errors."""
    try:
        return load(text, source, texts)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or "bad characters"
        raise ConfigError(f"{_named(source, option)} is not valid YAML: {problem}{where}") from error


def _named(source: Path | str, option: str) -> str:
    return f"{option}: {source}" if option else str(source)


def dump(content: Any, flow: bool = False) -> str:
    """YAML that ``load`` reads as the same again.

    Args:
        content: Plain values.
        flow: As it stands on a command line, in braces and brackets.
    """
    text = yaml.dump(
        content, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=not flow, width=inf
    )
    return text.removesuffix("...\n").removesuffix("\n") if flow else text


def same(one: Any, other: Any) -> bool:
    """Whether two values would be saved alike: 1, 1.0, true and "1" differ; nan is nan, and a tuple a list."""
    try:
        texts = [yaml.dump(value, Dumper=_Dumper, sort_keys=True) for value in (one, other)]
    except yaml.representer.RepresenterError:  # an object
        return bool(one == other)
    return texts[0] == texts[1]


def flat(content: dict[str, Any], section: str = "") -> dict[str, Any]:
    """Nested sections by full names."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{section}{key}.")
        else:
            result[f"{section}{key}"] = value
    return result


def _matches(place: Place, patterns: Sequence[Place]) -> bool:
    alike = (pattern for pattern in patterns if len(pattern) == len(place))
    return any(all(want in ("*", part) for part, want in zip(place, pattern, strict=True)) for pattern in alike)


def _readings(value: str) -> str:
    """What an unclear number may be meant as."""
    if ":" in value:
        sign, digits = (-1 if value[0] == "-" else 1), value.lstrip("-+").replace("_", "")
        whole = 0.0
        for part in digits.split(":"):
            whole = 60 * whole + float(part)
        return f'{sign * whole:.15g} (base 60) or "{value}" (text)'
    digits = value.replace("_", "")
    octal, decimal = int(digits, 8), int(digits)
    return f"{decimal}" + (f" or {octal} (octal)" if octal != decimal else "") + f' or "{value}" (text)'
