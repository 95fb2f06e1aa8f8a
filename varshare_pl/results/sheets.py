"""What the sheets of a report are made of: panels that have numbers, with x axes that end alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from varshare_pl.results.analysis import SuiteResults
from varshare_pl.results.colors import Style
from varshare_pl.results.images import Sheet
from varshare_pl.results.panels import band_panel
from varshare_pl.results.style import ENV_STEPS, PANEL_HEIGHT, Panel, short_label

SECONDS = "seconds of training"


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
        yield Sheet(name, title, _ending_alike(drawn), columns, height, caption, suite, folded)


def _ending_alike(panels: Sequence[Panel]) -> list[Panel]:
    """Curves over the same x end where those that need most of it do; where that is not the last value, x says so."""
    ends: dict[str, float] = {}
    for panel in panels:
        if panel.end is not None:
            ends[panel.xlabel] = max(panel.end, ends.get(panel.xlabel, 0.0))
    return [panel if panel.end is None else _ending_at(panel, ends[panel.xlabel]) for panel in panels]


def _ending_at(panel: Panel, end: float) -> Panel:
    cut = f"{panel.xlabel} (of {short_label(float(f'{panel.last:.2g}'))})" if end < panel.last else panel.xlabel
    return replace(panel, end=min(end, panel.last), xlabel=cut)


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
        (styles[method].name, styles[method], band)
        for method in results.bands
        for band in results.pick(method, metric, seconds)
        if band.task == task and not band.network
    ]
    suite = results.suite
    solved = suite.info.solved if metric.endswith(f"/{suite.measure}") else None
    xlabel = SECONDS if seconds else ENV_STEPS
    return band_panel(title, ylabel, lines, centre, xlabel=xlabel, solved=solved, limits=limits)
