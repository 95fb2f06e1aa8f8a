"""Where the pictures go: a GIF, an MP4, a window."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from PIL import Image

from varshare_pl.envs.physics.rendering import load_pygame
from varshare_pl.errors import ConfigError
from varshare_pl.trained.play.picture import CAPTION_COLOURS

COLOURS = 48  # of a GIF: drawings have few, and each bit less is a smaller file
PAUSE = 1.0  # seconds on the last picture


def write(path: Path, pictures: Iterable[Image.Image], seconds: float) -> None:
    """Write a GIF or an MP4, by the path's ending, whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        pictures: At least one, all of the same size.
        seconds: How long each is shown.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        (_write_gif if path.suffix == ".gif" else _write_mp4)(temporary, pictures, seconds)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_gif(path: Path, pictures: Iterable[Image.Image], seconds: float) -> None:
    # A GIF counts hundredths of a second, and viewers slow down what is shown for less than two of them.
    milliseconds = 10 * max(2, round(100 * seconds))
    frames = list(_in_one_palette(pictures))
    durations = [milliseconds] * (len(frames) - 1) + [milliseconds + round(1000 * PAUSE)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)


def _in_one_palette(pictures: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The colours of the first picture, and those of the captions as they are; one palette is a smaller file."""
    palette: Image.Image | None = None
    for picture in pictures:
        if palette is None:
            adapted = picture.quantize(COLOURS - len(CAPTION_COLOURS)).getpalette() or []
            palette = Image.new("P", (1, 1))
            palette.putpalette([value for colour in CAPTION_COLOURS for value in colour] + adapted)
        yield picture.quantize(palette=palette, dither=Image.Dither.NONE)


def load_video_writer() -> Any:
    """Import what writes videos.

    Raises:
        ConfigError: if it is missing.
    """
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigError('--output: an .mp4 needs imageio and ffmpeg: pip install "varshare-pl[video]"') from error
    return imageio


def _write_mp4(path: Path, pictures: Iterable[Image.Image], seconds: float) -> None:
    with load_video_writer().get_writer(path, fps=1 / seconds, macro_block_size=2) as writer:
        for picture in pictures:
            last = np.asarray(picture)
            writer.append_data(last)
        for _ in range(round(PAUSE / seconds)):
            writer.append_data(last)


class Window:
    """A window, as long as the user keeps it open.

    Raises:
        ConfigError: where there is no display or no pygame.
    """

    def __init__(self, title: str) -> None:
        try:
            self._pygame = pygame = load_pygame()
        except DependencyNotInstalled as error:
            raise ConfigError(f"--window: {error}") from error
        try:
            pygame.display.init()
        except pygame.error as error:
            raise ConfigError(f"--window: there is no display ({error}); --output writes a file") from error
        if pygame.display.get_driver() in ("offscreen", "dummy") and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()
            raise ConfigError("--window: there is no display; --output writes a file")
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._surface: Any = None

    def show(self, pictures: Iterable[Image.Image], seconds: float) -> Iterator[Image.Image]:
        """Show each picture for so many seconds and hand it on, until there are no more or the window is closed."""
        pygame = self._pygame
        for picture in pictures:
            if self._surface is None:
                self._surface = pygame.display.set_mode(picture.size)
            self._surface.blit(pygame.image.frombytes(picture.tobytes(), picture.size, "RGB"), (0, 0))
            pygame.display.flip()
            self._clock.tick(1 / seconds)
            yield picture
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                return

    def close(self) -> None:
        self._pygame.display.quit()
