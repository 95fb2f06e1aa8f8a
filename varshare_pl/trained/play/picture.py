"""The panels of all tasks as one image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from varshare_pl.text import plain
from varshare_pl.trained.play.episodes import Panel

WIDTH = 200  # pixels of a panel
CAPTION = 34
ONE_ROW = 6  # panels
WHITE, BLACK, GREY, GREEN = (255, 255, 255), (0, 0, 0), (215, 215, 215), (0, 120, 60)
CAPTION_COLOURS = (WHITE, BLACK, GREY, GREEN)


def columns_of(panels: int) -> int:
    """How many panels stand side by side: all of a few, else as many as below one another."""
    return panels if panels <= ONE_ROW else math.ceil(math.sqrt(panels))


def picture(panels: Sequence[Panel]) -> Image.Image:
    """All panels in a grid, each with the task's name, the step and the return; even sides, as videos need them."""
    height = max(_height(panel) for panel in panels) + CAPTION
    columns = columns_of(len(panels))
    rows = math.ceil(len(panels) / columns)
    whole = Image.new("RGB", (columns * WIDTH, rows * height), WHITE)
    draw = ImageDraw.Draw(whole)
    name_font, font = ImageFont.load_default(12), ImageFont.load_default(11)
    for i, panel in enumerate(panels):
        left, top = i % columns * WIDTH, i // columns * height
        image = Image.fromarray(panel.image).resize((WIDTH, _height(panel)), Image.Resampling.BOX)
        whole.paste(image, (left, top + CAPTION))
        draw.text((left + 6, top + 3), _fitting(panel.name, name_font), BLACK, name_font)
        text = f"step {panel.step}   return {panel.episode_return:.4g}"
        draw.text((left + 6, top + 18), text, GREEN if panel.ended else BLACK, font)
        draw.rectangle((left, top, left + WIDTH - 1, top + height - 1), outline=GREY)
    return whole


def _height(panel: Panel) -> int:
    height, width = map(int, panel.image.shape[:2])
    return max(2, 2 * round(WIDTH * height / width / 2))


def _fitting(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The name, cut where it would leave the panel."""
    name = plain(name)
    if font.getlength(name) <= WIDTH - 12:
        return name
    while font.getlength(f"{name}…") > WIDTH - 12:
        name = name[:-1]
    return f"{name}…"
