"""Pictures of a policy's episodes, one after the other, and a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image

from varshare_pl.trained.play.episodes import Episodes
from varshare_pl.trained.play.output import write
from varshare_pl.trained.play.picture import picture
from varshare_pl.trained.policy import TrainedPolicy

FPS = 25  # pictures in a second, unless told otherwise


def pictures(episodes: Episodes, fps: int = FPS) -> tuple[Iterator[Image.Image], float]:
    """Pictures of all tasks side by side, about so many in a second of the envs' time, and the seconds between two."""
    every = max(1, round(episodes.fps / fps))
    return (picture(panels) for panels in episodes.panels(every)), every / episodes.fps


def film(policy: TrainedPolicy, path: Path, seed: int) -> Path:
    """Write one episode of every task into a GIF or an MP4, which is replaced if it is there; gives the path.

    Raises:
        ConfigError: if an env cannot be drawn.
    """
    with closing(Episodes(policy, episodes=1, seed=seed)) as episodes:
        write(path, *pictures(episodes))
    return path
