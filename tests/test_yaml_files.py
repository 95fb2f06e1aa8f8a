"""YAML that means the same when it is written and read again, and refuses what it would lose or read otherwise."""

import datetime
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from varshare_pl.errors import ConfigError
from varshare_pl.yaml_files import dump, load, read_yaml, same

TEXTS = [
    *("off", "on", "Yes", "no", "True", "false", "null", "Null", "~", "", " ", " lead", "trail ", "\t", "\n", "y", "n"),
    *(
        "1",
        "-1",
        "1.0",
        "08",
        "010",
        "0x10",
        "0b1",
        "0o7",
        "1_000",
        "1e3",
        "1E+3",
        "-.5",
        ".inf",
        "-.INF",
        ".nan",
        "nan",
    ),
    *(
        "1:40",
        "1:40:00",
        "2026-01-01",
        "2026-01-01 10:00:00",
        "[1]",
        "{a: 1}",
        "x: y",
        "x:",
        "# c",
        "a # b",
        "- a",
        "-",
    ),
    *("&a", "*a", "!t", "| x", "> x", "%x", "@x", "`x`", "'q'", '"q"', "\\", "<<", "=", "?", "? a", "---", "...", ","),
    *(
        "two\nlines",
        "end\n",
        "\nbegin",
        " a\n  b\n",
        "a\r\nb",
        "tab\tin",
        "日本 😀 ü",
        "\u2028",
        "\x85",
        "\x00",
        "\x7f",
        "\ufeff",
    ),
    "long " * 60,
]
VALUES = [
    *(None, True, False, 0, 1, -7, 10**25, 0.1, 1.0, -0.0, 1e-300, 1e22, 1e16, math.inf, -math.inf, math.nan),
    *([], {}, [[]], [{}], [1, "1", True, "true", None, "null", 1.0], {"a": {"b": ["off", {"c": "1"}]}}),
    *({1: "a", 1.5: "b", False: "c", None: "d", "1": "e", "off": "f"}, {"class_path": "x", "sharing": "off"}),
    *(datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 10), b"bytes", {"a", "b"}),
]


def type_tree(value: Any) -> Any:
    """A value with the types of all its parts, in which nan equals nan."""
    if isinstance(value, dict):
        return "dict", [(type_tree(key), type_tree(item)) for key, item in value.items()]
    if isinstance(value, list):
        return "list", [type_tree(item) for item in value]
    if isinstance(value, set):
        return "set", sorted(value)
    return type(value), repr(value)


def random_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(4 if depth < 3 else 2)
    if kind == 0:
        return rng.choice(VALUES)
    if kind == 1:
        letters = "01:.e-+ \n\t#'\"[]{},&*!|>%@`\\oOnf~xü😀\x85\u2028"
        return rng.choice([rng.choice(TEXTS), "".join(rng.choices(letters, k=rng.randrange(8)))])
    items = [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return items if kind == 2 else {rng.choice(TEXTS): item for item in items}


@pytest.mark.parametrize("flow", [False, True])
def test_everything_comes_back_as_it_was(flow: bool) -> None:
    rng = random.Random(0)
    for value in [*TEXTS, *VALUES, *(random_value(rng) for _ in range(1000))]:
        for content in (value, [value], {"key": value}, {"a": {"b": [value]}}):
            again = load(dump(content, flow))
            assert type_tree(again) == type_tree(content), dump(content, flow)
            assert same(again, content)


def test_a_tuple_is_written_as_a_list() -> None:
    assert load(dump({"a": (1, ("2", 3))})) == {"a": [1, ["2", 3]]}
    assert same((1, 2), [1, 2])


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (1, "1"), (0, None), ("off", False), ([1], ["1"])])
def test_values_of_other_types_are_not_the_same(one: Any, other: Any) -> None:
    assert same(one, one)
    assert not same(one, other)
    assert not same({"a": one}, {"a": other})
    assert same({"a": one, "b": other}, {"b": other, "a": one})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("1e3", 1000.0),
            ("1.5E-3", 0.0015),
            ("-.5", -0.5),
            ("5.", 5.0),
            (".5e2", 50.0),
            ("1_000", 1000),
            ("0x10", 16),
        ),
        *(
            ("off", False),
            ("yes", True),
            ("~", None),
            ("2026-01-01", "2026-01-01"),
            ("1:99", "1:99"),
            ("._", "._"),
            ("08", "08"),
            ("0", 0),
        ),
    ],
)
def test_what_plain_values_are(text: str, value: Any) -> None:
    assert type_tree(load(f"a: {text}")) == type_tree({"a": value})


REFUSED = [
    ("a: 1\na: 2\n", "a: given twice, first in line 1; once is allowed (f.yaml, line 2)"),
    ("a:\n  b: {c: 1, d: 2, c: 3}\n", "a.b.c: given twice, in one line; once is allowed (f.yaml, line 2)"),
    ("- {a: 1}\n- a: 1\n  'a': 2\n", "[1].a: given twice, first in line 2; once is allowed (f.yaml, line 3)"),
    ("1: a\n0x1: b\n", "0x1: given twice, first in line 1"),
    ("a: {1: x, true: y}\n", "a.true: given twice, in one line"),
    ("? a\n: 1\n? a\n: 2\n", "a: given twice, first in line 1; once is allowed (f.yaml, line 3)"),
    ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: {d: 1}\n", "c.<<: given twice, first in line 3; once is allowed; <<: [*a, *b]"),
    ("a: &x {b: 1, b: 2}\nc: *x\n", "a.b: given twice"),
    (
        "seed_everything: 010\n",
        'seed_everything: 010 is not allowed; 10 or 8 (octal) or "010" (text) is (f.yaml, line 1)',
    ),
    ("a: {b: [1, 07]}\n", 'a.b[1]: 07 is not allowed; 7 or "07" (text) is (f.yaml, line 1)'),
    ("a: -1:40:00\n", 'a: -1:40:00 is not allowed; -6000 (base 60) or "-1:40:00" (text) is'),
    ("a: 1:30.5\n", 'a: 1:30.5 is not allowed; 90.5 (base 60) or "1:30.5" (text) is'),
    ("{010: a}\n", '010: 010 is not allowed; 10 or 8 (octal) or "010" (text) is'),
    ("a: &x [*x]\n", "a[0]: holds itself; plain values are allowed"),
    ("a: &x {b: *x}\n", "a.b: holds itself; plain values are allowed"),
    ("a: !!int x\n", "f.yaml is not valid YAML: a tag that does not fit its value"),
    ("a: !!timestamp x\n", "f.yaml is not valid YAML: a tag that does not fit its value"),
    ("a: !!python/tuple [1]\n", "f.yaml is not valid YAML: could not determine a constructor"),
    ("? [a]\n: 1\n", "f.yaml is not valid YAML: found unhashable key in line 1, column 3"),
    ("a: 1\n--- \nb: 1\n", "f.yaml is not valid YAML: but found another document"),
    ("a: [1\n", "f.yaml is not valid YAML: "),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_would_be_lost_or_read_otherwise_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml("f.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_merged_keys_may_be_given_again() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: [*b, *a], z: 3}\nd: {<<: *a, x: 5}\n"
    assert load(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 2, "z": 3},
        "d": {"x": 5, "y": 1},
    }


def test_names_in_a_config_are_text() -> None:
    entries = "[{name: on}, {name: 007}, {name: 1:40}, {name: null}, {name: '1'}]"
    names = ["on", "007", "1:40", None, "1"]
    whole = load(f"{{experiment: 010, data: {{suite: {entries}}}}}")
    assert whole["experiment"] == "010"
    for suite in (whole["data"]["suite"], load(f"{{suite: {entries}}}")["suite"], load(entries)):
        assert [task["name"] for task in suite] == names


def test_the_same_text_for_another_reader() -> None:
    """What we write is plain YAML, which means the same to PyYAML."""
    content = {"a": "off", "b": ["1", 1.5, None], "c": {"1e3": "x: y"}}
    assert yaml.safe_load(dump(content)) == content
