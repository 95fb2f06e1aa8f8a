"""Sheets of panels before they are drawn, and their files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.results import style
from varshare_pl.results.drawing import Figure, as_plain_text
from varshare_pl.results.look import Look
from varshare_pl.results.style import DPI, PANEL_HEIGHT, Panel

FEWEST_PIXELS = 1056  # of the width of a PNG: one at a column's width is to be read on a screen too


@dataclass(frozen=True)
class Sheet:
    """A figure before it is drawn; caption, suite and folded are for the page that shows it."""

    name: str  # of its files
    title: str
    panels: Sequence[Panel]
    columns: int
    height: float = PANEL_HEIGHT  # of a panel, in inches
    caption: str = ""
    suite: str = ""  # "" where it is of all suites
    folded: bool = False  # whether it is a detail, shown when asked for

    def draw(self, look: Look) -> Figure:
        return style.draw_sheet(self.title, self.panels, self.columns, look, self.height)


def by_name(sheets: Sequence[Sheet], look: Look) -> dict[str, Sheet]:
    """The figures of a look, by names that files can have, each once."""
    found: dict[str, Sheet] = {}
    for sheet in chain.from_iterable(map(_by_panel, sheets)) if look.panels else sheets:
        name = re.sub(r"[^\w.+-]+", "_", sheet.name)
        clashes = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found)
        found[f"{name}-{clashes + 1}" if clashes else name] = sheet
    return found


def _by_panel(sheet: Sheet) -> Iterator[Sheet]:
    for panel in sheet.panels:
        words = "_".join(re.findall(r"\w+", panel.title)).lower()
        alone = replace(panel, shared_rows=False)
        yield replace(sheet, name=f"{sheet.name}_{words}" if len(sheet.panels) > 1 else sheet.name, panels=[alone])


def draw_one(name: str, sheets: Mapping[str, Sheet], look: Look) -> Figure:
    """The figure of that name.

    Raises:
        ConfigError: if there is none, naming those that there are.
    """
    if name not in sheets:
        allowed = ", ".join(sheets) or "none, for nothing is measured yet,"
        raise ConfigError(f"plot: {name} is not allowed; {allowed} is")
    return sheets[name].draw(look)


def write_images(figure: Figure, folder: Path, name: str, kind: str) -> Path:
    """Write a figure as PNG, and as a file of that kind beside it; gives the path of the PNG."""
    png = folder / f"{name}.png"
    for path in dict.fromkeys((png, png.with_suffix(f".{kind}"))):
        write_image(figure, path)
    return png


def write_image(figure: Figure, path: Path) -> Path:
    """Write beside the image, then replace it: a reader never sees half an image. The same bytes each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    options: dict[str, Any] = {"format": path.suffix[1:], "dpi": max(DPI, FEWEST_PIXELS / figure.get_figwidth())}
    if path.suffix == ".png":
        # Level 3 of 9: a third less time than the default 6 for a tenth more bytes.
        options |= {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
    else:
        dates = {".svg": "Date", ".pdf": "CreationDate"}
        options["metadata"] = {dates[path.suffix]: None, "Creator": None}
    try:
        with as_plain_text({"svg.hashsalt": path.stem}):
            figure.savefig(part, **options)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
