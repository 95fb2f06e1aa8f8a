"""A sheet of panels as a figure: its grid, axes and legends.

Matplotlib's object interface with the Agg canvas: no pyplot, so nothing global is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from varshare_pl.results.drawing import (
    AutoLocator,
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    FigureCanvasAgg,
    FuncFormatter,
    Line2D,
    MaxNLocator,
    Patch,
    as_plain_text,
)
from varshare_pl.results.look import SCREEN, Look
from varshare_pl.text import plain, shortened, text_width

Handle = Line2D | Patch
ENV_STEPS = "env steps"
PANEL_HEIGHT = 2.35  # inches of a panel's axes
NARROWEST = 2.3  # inches of the width that a panel has at least
AROUND, TITLE, LEGEND_LINE, CHARACTER, HANDLE = 0.62, 0.3, 0.21, 0.077, 0.5  # inches at the font size of a screen
DPI, PAD = 110, 0.06  # inches around each panel
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
    end: float | None = None  # of lines: where x may end, as they have settled
    last: float = 0.0  # of lines: the x of their last value
    shared_rows: bool = False  # whether the names down its side are those of the panel left of it


def draw_sheet(
    title: str, panels: Sequence[Panel], columns: int, look: Look = SCREEN, panel_height: float = PANEL_HEIGHT
) -> Figure:
    """Draw the panels in a grid, and their legends side by side below it.

    Args:
        title: Above all panels.
        panels: Row by row.
        columns: Panels in a row, as far as the width has room for them.
        look: Width, font size and whether there are titles.
        panel_height: Of a panel's axes in inches.
    """
    columns = min(columns, len(panels), max(1, int(look.width / NARROWEST)))
    rows = math.ceil(len(panels) / columns)
    scale = look.font_size / SCREEN.font_size
    with as_plain_text(_text_sizes(look)):
        figure = new_figure(layout="none")
        legends: dict[str, dict[str, Handle]] = {}
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            handles = panel.draw(axes)
            below_it = panels[i + columns] if i + columns < len(panels) else None
            _dress(axes, panel, below_it is None or below_it.xlabel != panel.xlabel)
            if look.titles or len(panels) > 1:
                _panel_title(axes, panel.title)
            if panel.shared_rows and i % columns:
                axes.tick_params(labelleft=False)
            legends.setdefault(panel.legend, {}).update({str(handle.get_label()): handle for handle in handles})
        if look.titles:
            figure.suptitle(shortened(title, LONGEST_TITLE), x=0.01, ha="left", fontsize="x-large", weight="bold")
        lines = _legends(figure, {name: entries for name, entries in legends.items() if entries}, look.width / scale)
        around = rows * AROUND + TITLE * look.titles + LEGEND_LINE * lines
        figure.set_size_inches(look.width, rows * panel_height + scale * around)
        # Once for all formats, as it takes as long as to draw; a figure with an engine of its own is drawn three times.
        ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD).execute(figure)
    return figure


def _text_sizes(look: Look) -> dict[str, Any]:
    """All text has the font size, but for titles; sizes by name, as "small", are relative to it."""
    same = ("axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    return {"font.size": look.font_size, "axes.titlesize": "large" if look.titles else "medium"} | dict.fromkeys(
        same, "medium"
    )


def short_label(value: float, _position: int | None = None) -> str:
    """A tick such as 50k or 1.5M."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _dress(axes: Axes, panel: Panel, labelled: bool) -> None:
    """Labels, ticks and grid."""
    axes.set_ylabel(plain(panel.ylabel))
    if labelled:
        axes.set_xlabel(plain(panel.xlabel))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(color="#888888")
    if panel.from_zero:
        last = axes.dataLim.x1 if panel.end is None else panel.end
        axes.set_xlim(0, 1.02 * last if math.isfinite(last) and last > 0 else 1.0)
    if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(short_label))
    if isinstance(axes.yaxis.get_major_locator(), AutoLocator):
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if max(map(abs, axes.get_ylim())) >= 10_000:
            axes.yaxis.set_major_formatter(FuncFormatter(short_label))


def _panel_title(axes: Axes, title: str) -> None:
    formatter = axes.yaxis.get_major_formatter()
    formatter.format_ticks(axes.yaxis.get_majorticklocs().tolist())
    # To look for a free place takes a fifth of the time of a drawing; only a factor "1e−5" may be in the way.
    axes.set_title(shortened(title, LONGEST_PANEL), loc="left", pad=5, y=None if formatter.get_offset() else 1.0)


def _legends(figure: Figure, legends: dict[str, dict[str, Handle]], width: float) -> int:
    """Draw the legends, each named, and give the lines of the longest one; the width is at a screen's font size."""
    places: Any = ["outside lower center"] if len(legends) == 1 else ["outside lower left", "outside lower right"]
    lengths = [min(sum(map(_length, entries)), width) for entries in legends.values()]
    most = 0
    for (name, entries), place, length in zip(legends.items(), places, lengths, strict=False):
        lines = _legend_lines(entries, width * length / sum(lengths))
        legend = figure.legend(
            handles=list(entries.values()),
            labels=[" "] * len(entries),  # matplotlib would leave out a name that begins with _
            loc=place,
            ncols=math.ceil(len(entries) / lines),
            title=name or None,
            frameon=False,
            handlelength=1.9,
            columnspacing=1.3,
            borderaxespad=0.0,
        )
        for text, label in zip(legend.get_texts(), entries, strict=True):
            text.set_text(shortened(label, LONGEST_LABEL))
        most = max(most, lines + 1)
    return most


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


class NotebookFigure(Figure):
    """A figure that a notebook shows as it is, without pyplot."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=DPI)
        return image.getvalue()

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's, with names as they are and with whole TrueType fonts in a PDF."""
        with as_plain_text():
            super().savefig(fname, **options)


def new_figure(**size: Any) -> Figure:
    """An empty figure for files and notebooks."""
    figure = NotebookFigure(dpi=DPI, **size)
    FigureCanvasAgg(figure)
    return figure
