"""The look of the plots: colours, axes, legends below the panels, and writing an image.

Matplotlib's object interface with the Agg canvas: no pyplot, so nothing global is touched. Margins are worked out in
inches here, which is several times faster than matplotlib's own layout engines.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.results.drawing import (
    AutoLocator,
    Axes,
    Figure,
    FigureCanvasAgg,
    FuncFormatter,
    Line2D,
    MaxNLocator,
    Patch,
    as_plain_text,
    colormaps,
)
from varshare_pl.text import plain, shortened, text_width

Handle = Line2D | Patch
Style = tuple[Any, Any]  # a colour and a dash pattern, as matplotlib takes them
BLACK, GREY = "#000000", "#999999"
# Okabe and Ito's colours, safe for colour-blind readers; the palest ones last, black is for means
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", GREY, "#F0E442")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
METHODS = (
    *("varshare", "shared", "independent", "multi_head", "shared_onehot", "paco", "soft_modularization", "moore"),
    *("shared_embedding", "film", "care", "mixture"),
)
DPI = 110
ENV_STEPS = "env steps"
PANEL_HEIGHT, WIDTH = 2.35, 9.6
LEFT, RIGHT, TOP, BETWEEN_ROWS, BETWEEN_COLUMNS = 0.72, 0.15, 0.75, 0.62, 0.8
UNDER_AXES, LEGEND_LINE, CHARACTER, HANDLE = 0.5, 0.21, 0.077, 0.5
TICK_CHARACTER, TICKS_BESIDE_LABEL, TICKS_ALONE = 0.08, 5, 7  # how many characters of a tick fit left of a panel
CAPTION_LINE, CAPTION_CHARACTER = 0.165, 0.06
LONGEST_LABEL, LONGEST_PANEL, LONGEST_TITLE = 36, 60, 90  # characters that have room


@dataclass(frozen=True)
class Panel:
    """One pair of axes: ``draw`` fills it and returns what the legend named ``legend`` shows of it."""

    title: str
    ylabel: str
    draw: Callable[[Axes], Sequence[Handle]]
    legend: str = ""
    xlabel: str = ENV_STEPS
    from_zero: bool = True  # whether x starts at 0; else its limits are as they were drawn


def task_colors(num_tasks: int) -> list[str | tuple[float, ...]]:
    """A colour for each task: distinct ones for few tasks, a ramp from dark to light for many."""
    if num_tasks <= len(OKABE_ITO):
        return list(OKABE_ITO[:num_tasks])
    return _ramp(num_tasks)


def layer_styles(layers: Sequence[str]) -> list[Style]:
    """A colour and a dash pattern for each layer; unlike the tasks' colours they form a ramp."""
    colors = [colormaps["plasma"](0.75 * i / max(len(layers) - 1, 1)) for i in range(len(layers))]
    return [(color, DASHES[i % len(DASHES)]) for i, color in enumerate(colors)]


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """A colour and a dash pattern for each method's label.

    Those of the package's methods are always the same. Another label has one that its letters
    decide, and a colour that no method before it has, as long as there are such.
    """
    slots: dict[str, int] = {label: METHODS.index(label) for label in methods if label in METHODS}
    colors = len(OKABE_ITO)
    every = range(colors * len(DASHES))
    for label in methods:
        if label not in slots:
            taken = set(slots.values())
            free = [k for k in every if k % colors not in {slot % colors for slot in taken}]
            free = free or [k for k in every if k not in taken] or list(every)
            slots[label] = free[zlib.crc32(label.encode()) % len(free)]
    return {label: (OKABE_ITO[k % colors], DASHES[(k + k // colors) % len(DASHES)]) for label, k in slots.items()}


@as_plain_text()
def draw_sheet(
    title: str, panels: Sequence[Panel], columns: int, caption: str = "", panel_height: float = PANEL_HEIGHT
) -> Figure:
    """Draw the panels in a grid, their legends side by side below it and then the caption.

    Args:
        title: Above all panels.
        panels: Row by row.
        columns: Panels in a row.
        caption: Below the legends.
        panel_height: In inches.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure()
    legends: dict[str, dict[str, Handle]] = {}
    between_rows = BETWEEN_ROWS
    first_room = room = 0.0  # for long ticks, of the first column and of the others
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        handles = panel.draw(axes)
        below_it = panels[i + columns] if i + columns < len(panels) else None
        differs = below_it is not None and below_it.xlabel != panel.xlabel
        between_rows = max(between_rows, BETWEEN_ROWS + LEGEND_LINE * differs)
        needed = _dress(axes, panel, labelled=below_it is None or differs)
        first_room, room = (max(first_room, needed), room) if i % columns == 0 else (first_room, max(room, needed))
        legends.setdefault(panel.legend, {}).update({str(handle.get_label()): handle for handle in handles})
    legends = {name: entries for name, entries in legends.items() if entries}

    width = WIDTH if columns > 1 else 0.75 * WIDTH
    shares = _legend_shares(legends, width)
    lines = [_legend_lines(entries, share * width) for entries, share in zip(legends.values(), shares, strict=True)]
    below = UNDER_AXES + (max(lines) * LEGEND_LINE + 0.3 if lines else 0.0)
    legend_top = below - UNDER_AXES
    note = textwrap.wrap(plain(caption), int((width - 0.24) / CAPTION_CHARACTER))
    below, legend_top = (size + len(note) * CAPTION_LINE + 0.1 * bool(note) for size in (below, legend_top))
    height = TOP + rows * panel_height + (rows - 1) * between_rows + below
    figure.set_size_inches(width, height)
    left, between = LEFT + first_room, BETWEEN_COLUMNS + room
    panel_width = (width - left - RIGHT - (columns - 1) * between) / columns
    figure.subplots_adjust(
        left=left / width,
        right=1 - RIGHT / width,
        top=1 - TOP / height,
        bottom=below / height,
        wspace=between / panel_width,
        hspace=between_rows / panel_height,
    )
    figure.text(0.12 / width, 1 - 0.1 / height, shortened(title, LONGEST_TITLE), va="top", fontsize=13, weight="bold")
    figure.text(0.12 / width, 0.1 / height, "\n".join(note), va="bottom", fontsize=8.5)
    start = 0.0
    for (name, entries), share, count in zip(legends.items(), shares, lines, strict=True):
        _legend(figure, name, entries, (start + share / 2, legend_top / height), math.ceil(len(entries) / count))
        start += share
    return figure


def short_label(value: float, _position: int | None = None) -> str:
    """A tick such as 50k or 1.5M."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _dress(axes: Axes, panel: Panel, labelled: bool) -> float:
    """Title, labels, ticks and grid; gives the inches that long y ticks need beyond the usual margin."""
    axes.set_ylabel(plain(panel.ylabel), fontsize=9.5)
    if labelled:
        axes.set_xlabel(plain(panel.xlabel), fontsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color="#888888")
    if panel.from_zero:
        last = axes.dataLim.x1
        axes.set_xlim(0, 1.02 * last if math.isfinite(last) and last > 0 else 1.0)
    if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(short_label))
    if isinstance(axes.yaxis.get_major_locator(), AutoLocator):
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if max(map(abs, axes.get_ylim())) >= 10_000:
            axes.yaxis.set_major_formatter(FuncFormatter(short_label))
    formatter = axes.yaxis.get_major_formatter()
    places = axes.yaxis.get_majorticklocs().tolist()
    low, high = sorted(axes.get_ylim())
    ticks = [tick for tick, y in zip(formatter.format_ticks(places), places, strict=True) if low <= y <= high]
    # To look for a free place takes a fifth of the time of a drawing; only a factor "1e−5" may be in the way.
    height = None if formatter.get_offset() else 1.0
    axes.set_title(shortened(panel.title, LONGEST_PANEL), fontsize=10.5, loc="left", pad=5, y=height)
    fitting = TICKS_BESIDE_LABEL if panel.ylabel else TICKS_ALONE
    return TICK_CHARACTER * max(0, max(map(len, ticks), default=0) - fitting)


def _legend(
    figure: Figure, name: str, entries: dict[str, Handle], top_center: tuple[float, float], columns: int
) -> None:
    legend = figure.legend(
        handles=list(entries.values()),
        labels=[" "] * len(entries),  # matplotlib would leave out a name that begins with _
        loc="upper center",
        bbox_to_anchor=top_center,
        ncols=columns,
        title=name or None,
        fontsize=9,
        title_fontsize=9,
        frameon=False,
        handlelength=1.9,
        columnspacing=1.3,
        borderaxespad=0.0,
    )
    for text, label in zip(legend.get_texts(), entries, strict=True):
        text.set_text(shortened(label, LONGEST_LABEL))


def _legend_shares(legends: dict[str, dict[str, Handle]], width: float) -> list[float]:
    """The share of the figure's width of each legend, by how long it is in one line."""
    lengths = [min(sum(map(_length, entries)), width) for entries in legends.values()]
    return [length / sum(lengths) for length in lengths]


def _legend_lines(entries: dict[str, Handle], width: float) -> int:
    """Lines that a legend needs; it is filled column by column, each as wide as its longest entry."""
    lengths = [_length(label) for label in entries]
    for lines in range(1, len(lengths)):
        if sum(max(lengths[i : i + lines]) for i in range(0, len(lengths), lines)) <= width:
            return lines
    return len(lengths)


def _length(label: str) -> float:
    """Inches of a legend's entry."""
    return HANDLE + CHARACTER * min(text_width(plain(label)), LONGEST_LABEL)


def _ramp(count: int) -> list[str | tuple[float, ...]]:
    return [colormaps["viridis"](0.92 * i / max(count - 1, 1)) for i in range(count)]


class NotebookFigure(Figure):
    """A figure that a notebook shows as it is, without pyplot."""

    @as_plain_text()
    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=DPI)
        return image.getvalue()


def new_figure(**size: Any) -> Figure:
    """An empty figure for files and notebooks."""
    figure = NotebookFigure(dpi=DPI, **size)
    FigureCanvasAgg(figure)
    return figure


def chosen(name: str, drawings: Mapping[str, Callable[[], Figure]]) -> Figure:
    """The figure of that name, drawn.

    Raises:
        ConfigError: if there is none, naming those that there are.
    """
    if name not in drawings:
        allowed = ", ".join(drawings) or "none, for nothing is measured yet,"
        raise ConfigError(f"plot: {name} is not allowed; {allowed} is")
    return drawings[name]()


def write_image(figure: Figure, path: Path) -> Path:
    """Write beside the image, then replace it: a reader never sees half an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    options: dict[str, Any] = {"format": path.suffix[1:], "dpi": DPI}
    if path.suffix == ".png":
        # Level 3 of 9: a third less time than the default 6 for a tenth more bytes.
        options |= {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
    else:
        options["metadata"] = {"Date": None, "Creator": None}
    try:
        # the same bytes each time; text as text
        with as_plain_text({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
            figure.savefig(part, **options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
