"""What a study's file says of its report: order, names and colours of the methods, and what is right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.study.values import check_keys, mapping, refuse, text, texts


@dataclass(frozen=True)
class Shown:
    """How the report shows methods, by their labels.

    Attributes:
        order: Those that come first; the others follow in the order of the study.
        names: Shown in place of labels.
        colors: As matplotlib takes them; the others have their own.
    """

    order: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)


def read_shown(content: dict[str, Any], methods: Collection[str]) -> Shown:
    """The section ``report``, for methods of these labels.

    Raises:
        ConfigError: for whatever is wrong in it, in one line.
    """
    check_keys(content, ("order", "names", "colors"), "report.")
    order = texts(content.get("order"), "report.order")
    names, colors = (mapping(content.get(key), f"report.{key}") for key in ("names", "colors"))
    for key, labels in (("order", order), ("names", names), ("colors", colors)):
        for label in labels:
            if label not in methods:
                raise refuse(f"report.{key}", label, f"methods are: {', '.join(methods)}")
    twice = [label for label in order if order.count(label) > 1]
    if twice:
        raise ConfigError(f"report.order: {twice[0]} is given twice; each method once is allowed")
    for label, name in names.items():
        text(name, f"report.names.{label}")
    clash = [name for name in names.values() if [names.get(label, label) for label in methods].count(name) > 1]
    if clash:
        raise ConfigError(f"report.names: {clash[0]} is the name of two methods; one is allowed")
    for label, color in colors.items():
        _check_color(color, f"report.colors.{label}")
    return Shown(order, names, colors)


def expected_energies(energies: dict[str, Any], suites: Collection[str]) -> dict[str, float]:
    """The section ``expected_head_energy``, for suites of these labels.

    Raises:
        ConfigError: for whatever is wrong in it, in one line.
    """
    for suite, energy in energies.items():
        key = f"expected_head_energy.{suite}"
        if suite not in suites:
            raise ConfigError(f"{key}: unknown suite; {', '.join(suites)} are allowed")
        if isinstance(energy, bool) or not isinstance(energy, int | float) or not 0 <= energy <= 1:
            raise refuse(key, energy, "a number from 0 to 1 is")
    return energies


def _check_color(color: Any, key: str) -> None:
    from varshare_pl.results.drawing import is_color  # loads matplotlib, which few studies need here

    if not isinstance(color, str) or not is_color(color):
        raise refuse(key, color, 'a colour of matplotlib, such as "#0072B2" or "tab:red", is')
