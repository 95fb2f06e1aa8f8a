"""How figures are to look, as a command, the plots callback or Python asks for it; without matplotlib."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from varshare_pl.arguments import CommandParser
from varshare_pl.errors import ConfigError

FORMATS = ("png", "svg", "pdf")
LIMITS = {"width": (2.0, 40.0, "inches"), "font_size": (4.0, 30.0, "points")}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How figures are drawn; the defaults are for a screen.

    Attributes:
        width: Of a figure in inches, such as 3.3 for a column of a paper.
        font_size: Of the text in points.
        titles: Whether figures have a title. Those of several panels keep the panels' titles, which tell them apart.
        panels: Whether each panel is a figure of its own.

    Raises:
        ConfigError: for a size that no figure can have.
    """

    width: float = 9.6
    font_size: float = 9.0
    titles: bool = True
    panels: bool = False

    def __post_init__(self) -> None:
        for name, (least, most, unit) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(f"{name}: {value} is not allowed; {least:g} to {most:g} {unit} are")


SCREEN = Look()


def add_look_options(parser: CommandParser, default: str) -> None:
    """Add the options that say how a command draws its figures."""
    own = parser.add_argument_group("figures")
    own.add_argument("--format", choices=FORMATS, default=default, help=f"beside PNG (default: {default})")
    own.add_argument("--width", type=float, default=SCREEN.width, metavar="INCHES", help="3.3: a column of a paper")
    own.add_argument("--font-size", type=float, default=SCREEN.font_size, metavar="POINTS")
    own.add_argument("--no-titles", dest="titles", action="store_false", help="leave out the figures' titles")
    own.add_argument("--panels", action="store_true", help="draw each panel as a figure of its own")


def look_of(options: argparse.Namespace) -> Look:
    """The look that these options ask for.

    Raises:
        ConfigError: for a size that no figure can have.
    """
    names = ("width", "font_size", "titles", "panels")
    return Look(**{name: getattr(options, name) for name in names})
