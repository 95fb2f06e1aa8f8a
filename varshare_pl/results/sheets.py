"""The sheets of a report: what is drawn on each image, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from varshare_pl.results.analysis import SuiteResults
from varshare_pl.results.drawing import Figure
from varshare_pl.results.panels import band_panel
from varshare_pl.results.style import ENV_STEPS, PANEL_HEIGHT, Panel, Style, draw_sheet

SECONDS = "seconds of training"


@dataclass(frozen=True)
class Sheet:
    """An image of a report before it is drawn."""

    name: str  # of its file
    title: str
    caption: str
    draw: Callable[[], Figure]
    suite: str = ""  # "" where it is of all suites
    folded: bool = False  # whether it is a detail, shown when asked for


def panel_sheet(
    name: str,
    title: str,
    panels: Sequence[Panel | None],
    columns: int,
    caption: str,
    suite: str = "",
    *,
    height: float = PANEL_HEIGHT,
    folded: bool = False,
) -> Iterator[Sheet]:
    """A sheet of the panels that are there; none where there are none."""
    drawn = [panel for panel in panels if panel is not None]
    if drawn:
        yield Sheet(name, title, caption, partial(draw_sheet, title, drawn, columns, "", height), suite, folded)


def methods_panel(
    results: SuiteResults,
    styles: dict[str, Style],
    metric: str,
    title: str,
    ylabel: str,
    centre: str,
    task: int | None = None,
    limits: tuple[float, float] | None = None,
    seconds: bool = False,
) -> Panel | None:
    """A line for each method that has the metric, of whole networks."""
    lines = [
        (method, styles[method], band)
        for method in results.bands
        for band in results.pick(method, metric, seconds)
        if band.task == task and not band.network
    ]
    suite = results.suite
    solved = suite.info.solved if metric.endswith(f"/{suite.measure}") else None
    xlabel = SECONDS if seconds else ENV_STEPS
    return band_panel(title, ylabel, lines, centre, xlabel=xlabel, solved=solved, limits=limits)
