"""One clear line out of the parser's long messages: the key, the value and what is allowed."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from varshare_pl.earlier import METHODS, new_value

LONGEST = 300
_WORDS = {
    "PositiveInt": "a positive integer",
    "NonNegativeInt": "an integer of at least 0",
    "PositiveFloat": "a positive number",
    "NonNegativeFloat": "a number of at least 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "keys with values",
    "Logger": "the class of a Lightning logger",
    "NoneType": "null",
    "null": "null",
}
_LISTS = {"Sequence", "list", "Iterable", "tuple"}
_VALUES = (
    r"Given value: (.*)",
    r"Got value: (.*)",
    r"Not of type \w+: (.+) (?:does not conform|not an integer)",
    r"invalid literal for int\(\) with base 10: '(.*)'",
    r"could not convert string to float: '(.*)'",
)


def one_line(message: str) -> str:
    """The gist of a parser's message; whatever its form, the result is one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", message)
    keys = re.findall(r'(?:Parser key |^[\s-]*)"([\w.]+)":', text, re.MULTILINE)
    key = ".init_args.".join(dict.fromkeys(keys))
    if key and (inner := re.search(r"^[\s-]*([\w.]+: .* is not allowed; .* is)$", text, re.MULTILINE)):
        return f"{key}.init_args.{inner[1]}"  # a nested parser has condensed it already
    if key and (option := re.search(r"Option '(\w+)' is not accepted", text)):
        return unknown_option(key, option[1])
    if key and (missing := re.search(r"^\s*- ([\w.]+): a value is missing$", text, re.MULTILINE)):
        return f"{key}.init_args.{missing[1]}: a value is missing"
    if key and (problem := _class_problem(text)):
        return f"{key}: {problem}"
    if key and (allowed := _allowed(text)):
        value = _value(text)
        return f"{key}: {value} is not allowed; {allowed} is{new_value(key.rpartition('.')[2], value)}"
    if key and (path := re.search(r"Unable to load config '(.*)'", text)):
        return f"{key}: {path[1]} is not allowed; keys with values or a YAML file with them are"
    if flag := re.search(r"argument (?:-\w/)?(--[\w.+]+): expected .*argument", text):
        return f"{flag[1]}: a value is missing"
    if needed := re.search(r"arguments are required: (?:fit\.|validate\.)?([\w.]+)", text):
        return f"{needed[1]}: a value is missing"
    return _gist(text)


def not_made(message: str, options: Mapping[str, Any]) -> str:
    """What to say when a class that an option of the Trainer names cannot be made.

    Args:
        message: The parser's.
        options: Of the Trainer.
    """
    problem = _class_problem(message) or _gist(message)
    name = problem.partition(" ")[0]
    key = next((key for key, value in options.items() if name in str(value)), None)
    return f"trainer.{key}: {problem}" if key else f"trainer: {problem}"


def type_words(text: str) -> str:
    """A type, as the parser writes it, in plain words: "PositiveInt | null" is "a positive integer or null"."""
    words = list(dict.fromkeys(word for part in _alternatives(text) for word in _words(part)))
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def suggestion(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: the one with the same last part, else a similar one."""
    names = list(names)
    leaf = name.rpartition(".")[2]
    same = [other for other in names if other.rpartition(".")[2] == leaf]
    if len(same) == 1:
        return same[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return close[0] if close else None


def unknown_key(key: str, keys: Iterable[str], dashes: str = "") -> str:
    """What to say of a key or option that does not exist."""
    meant = suggestion(key, keys)
    hint = f"did you mean {dashes}{meant}?" if meant else "'varshare fit --help' lists all"
    return f"{dashes}{key}: unknown {'option' if dashes else 'key'}; {hint}"


def unknown_option(key: str, option: str) -> str:
    """What to say of an option that the class chosen by a key, such as model.sharing, does not have."""
    hint = f", it has a method of its own: {key}: {METHODS[option]}" if option in METHODS else ""
    return f"{key}.init_args.{option}: not an option of this class{hint}"


def _class_problem(text: str) -> str | None:
    """Why a class cannot be imported or made, where the parser says it."""
    found = re.search(r"given class_path '([\w.]+)':\s*\n\s*(?!Parser key|- )(.+)", text)
    return f"{found[1]} cannot be used: {found[2].partition(' HINT')[0]}" if found else None


def _value(text: str) -> str:
    if "not 'NoneType'" in text:
        return "null"
    found = next((match[1] for pattern in _VALUES if (match := re.search(pattern, text))), "the value")
    if path := re.match(r"NestedArg\(key='class_path', val='(.*?)'|\{'class_path': '(.*?)'", found):
        found = path[1] or path[2]
    return found if len(found) <= 80 else found[:77] + "..."


def _allowed(text: str) -> str | None:
    if union := re.search(r"Subtypes: \[(.*)\]", text):
        return type_words(f"Union[{union[1]}]")
    single = re.search(
        r"Not of type (\w+)|Expected an? (?!path but|dot import)(.+?)(?:\. Got value|$)", text, re.MULTILINE
    )
    return type_words(single[1] or single[2]) if single else None


def _alternatives(text: str) -> list[str]:
    """The members of a union, however it is written."""
    text = re.sub(r"^<class '([\w.]+)'>$", r"\1", text.strip())
    if optional := re.fullmatch(r"(?:typing\.)?Optional\[(.*)\]", text):
        return [*_alternatives(optional[1]), "null"]
    if union := re.fullmatch(r"(?:typing\.)?Union\[(.*)\]", text):
        return [part for member in _split(union[1], ",") for part in _alternatives(member)]
    members = _split(text, "|")
    return [text] if len(members) == 1 else [part for member in members for part in _alternatives(member)]


def _split(text: str, separator: str) -> list[str]:
    """Split where no bracket is open."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[(") - (char in "])")
        if char == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _words(text: str) -> list[str]:
    if choices := re.fullmatch(r"(?:typing\.)?Literal(\[.*\])", text):
        return [str(choice) for choice in ast.literal_eval(choices[1])]
    name = text.partition("[")[0].rpartition(".")[2]
    return ["a list such as [a, b]"] if name in _LISTS else [_WORDS.get(name, name)]


def _gist(text: str) -> str:
    text = " ".join(text.split())
    text = re.sub(r"Validation failed: |Problem with given class_path [^:]*: ?|Parser key ", "", text)
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"varshare_pl(?:\.\w+)*\.(\w+)", r"\1", text)
    text = re.sub(r'^"([\w.]+)":', r"\1:", text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
