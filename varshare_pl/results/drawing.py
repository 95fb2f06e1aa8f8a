"""All of matplotlib that is used here. Figures go to files alone, so its backend for windows is left as it was.

A notebook hands its own backend to the commands that it starts, by MPLBACKEND; where that is not installed, to import
matplotlib would fail.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any


@contextmanager
def _without_backend() -> Iterator[None]:
    """Import matplotlib without a look at MPLBACKEND; later, where it can be used, that holds as ever."""
    wanted = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    if wanted:
        import matplotlib as mpl

        with suppress(ValueError):
            mpl.rcParams["backend"] = wanted


with _without_backend():
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import is_color_like as is_color
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import AutoLocator, FuncFormatter, MaxNLocator

__all__ = [
    "AutoLocator",
    "Axes",
    "ConstrainedLayoutEngine",
    "Figure",
    "FigureCanvasAgg",
    "FuncFormatter",
    "Line2D",
    "MaxNLocator",
    "Patch",
    "as_plain_text",
    "colormaps",
    "is_color",
]


@contextmanager
def as_plain_text(settings: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """Draw names as they are: no formulas between dollars, whatever the user's matplotlibrc says.

    Text stays text: an SVG names its font, a PDF holds it, as TrueType, which publishers ask for. A character that
    the font lacks becomes a box in PNG and PDF; the SVG has it.
    """
    chosen: Any = {"text.parse_math": False, "text.usetex": False, "svg.fonttype": "none", "pdf.fonttype": 42}
    chosen |= settings
    with rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        yield
