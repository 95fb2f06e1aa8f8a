"""The colours, dashes and markers by which methods, tasks and layers are told apart.

Every colour has a contrast of at least 3 : 1 on white. Colour-blind readers tell those of ``COLORS`` apart, and in grey
dashes and markers do: no two methods have both in common.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from varshare_pl.results.drawing import colormaps

BLACK, GREY = "#000000", "#808080"
COLORS = ("#0072B2", "#D55E00", "#08A857", "#864BE9", "#474D49", "#C6769E", "#6B2E73", "#803C00")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
MARKERS = "os^DvP<X"
MARKS = 6  # on a line
SLOTS = range(len(COLORS) * len(DASHES))
METHODS = (
    *("varshare", "shared", "independent", "multi_head", "shared_onehot", "paco", "soft_modularization", "moore"),
    *("shared_embedding", "film", "care", "mixture"),
)
RAMP_END = {"viridis": 0.6, "plasma": 0.6}  # beyond it a colour is too pale on white


class Style(NamedTuple):
    """How a line looks; colour and dashes as matplotlib takes them."""

    color: Any
    dashes: Any
    marker: str = ""
    name: str = ""  # in legends


def task_styles(num_tasks: int) -> list[Style]:
    """How each task looks: distinct for few tasks, of many a ramp from dark to light."""
    if num_tasks <= len(COLORS):
        return [_style(m) for m in range(num_tasks)]
    return [Style(color, "-") for color in _ramp("viridis", num_tasks)]


def layer_styles(layers: Sequence[str]) -> list[Style]:
    """A colour, dashes and a marker for each layer; unlike the tasks' colours they form a ramp."""
    ramp = _ramp("plasma", len(layers))
    return [Style(color, DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i, color in enumerate(ramp)]


def method_styles(kinds: Mapping[str, str], names: Mapping[str, str], colors: Mapping[str, str]) -> dict[str, Style]:
    """How each method looks, by its label.

    A method looks the same whatever its label: one of the package has its place in ``METHODS``, that of another follows
    from the letters of its kind. Of variants of one kind the one of that name looks so, else the first; the looks of
    the others follow from their labels. No two have one colour as long as there are others.

    Args:
        kinds: By label what the method is, such as "varshare".
        names: Those to show, by label; else the label is shown.
        colors: Those that are asked for, by label.
    """
    own_names = sorted(kinds, key=lambda label: label != kinds[label])
    first = {kind: label for label in reversed(own_names) for kind in [kinds[label]]}
    letters = {label: kind if first[kind] == label else label for label, kind in kinds.items()}
    slots = {label: METHODS.index(kinds[label]) for label in first.values() if kinds[label] in METHODS}
    for label in kinds:
        if label not in slots:
            taken = set(slots.values())
            used = {slot % len(COLORS) for slot in taken}
            free = [k for k in SLOTS if k % len(COLORS) not in used] or [k for k in SLOTS if k not in taken] or [*SLOTS]
            slots[label] = free[zlib.crc32(letters[label].encode()) % len(free)]
    return {label: _style(slots[label], names.get(label, label), colors.get(label)) for label in kinds}


def marked(style: Style, points: int) -> range:
    """Which points of a line have its marker: others than those of lines with other markers."""
    step = max(1, points // MARKS)
    return range(MARKERS.find(style.marker) * step // len(MARKERS), points, step) if style.marker else range(0)


def _style(slot: int, name: str = "", color: str | None = None) -> Style:
    """That of a slot: slots of one colour have the same marker and other dashes."""
    turn, number = divmod(slot, len(COLORS))
    return Style(color or COLORS[number], DASHES[(number + turn) % len(DASHES)], MARKERS[number], name)


def _ramp(name: str, count: int) -> list[Any]:
    return [colormaps[name](RAMP_END[name] * i / max(count - 1, 1)) for i in range(count)]
