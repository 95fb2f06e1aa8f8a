"""The figures of a report: as images beside the page, or one of them to be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from varshare_pl.results.analysis import Analysis
from varshare_pl.results.drawing import Figure as Drawn
from varshare_pl.results.sheets import Sheet, sheets
from varshare_pl.results.style import chosen, draw_sheet, write_image


@dataclass(frozen=True)
class Figure:
    """An image of a report; its SVG lies beside it."""

    path: Path
    title: str
    caption: str
    suite: str = ""  # "" where it is of all suites
    folded: bool = False  # whether it is a detail, shown when asked for


def draw_figures(analysis: Analysis, folder: Path) -> list[Figure]:
    """Draw every sheet for which there are numbers, as PNG and SVG, into a folder."""
    figures: list[Figure] = []
    for name, sheet in _named(analysis).items():
        image = _draw(sheet)
        path = folder / f"{name}.png"
        write_image(image, path.with_suffix(".svg"))
        figures.append(Figure(write_image(image, path), sheet.title, sheet.caption, sheet.suite, sheet.folded))
    return figures


def report_figure(analysis: Analysis, name: str) -> Drawn:
    """One of the figures of a report by the name of its file, to be shown or changed.

    Raises:
        ConfigError: for a name that the report has no figure of.
    """
    return chosen(name, {found: partial(_draw, sheet) for found, sheet in _named(analysis).items()})


def _draw(sheet: Sheet) -> Drawn:
    return draw_sheet(sheet.title, sheet.panels, sheet.columns, "", sheet.height)


def _named(analysis: Analysis) -> dict[str, Sheet]:
    """The sheets by names that files can have, each once."""
    found: dict[str, Sheet] = {}
    for sheet in sheets(analysis):
        name = re.sub(r"[^\w.+-]+", "_", sheet.name)
        clashes = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found)
        found[f"{name}-{clashes + 1}" if clashes else name] = sheet
    return found
