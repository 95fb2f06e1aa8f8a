"""How MuJoCo draws where there is no display."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from varshare_pl.errors import ConfigError

CHOICE = "MUJOCO_GL"  # the environment variable that MuJoCo and Gymnasium read
_TRY = "from mujoco.{} import GLContext; GLContext(8, 8).make_current()"
_KNOWN = ("egl", "osmesa", "glfw")


def choose_opengl() -> None:
    """Take EGL, or OSMesa, whichever works, where there is no display and the user has not chosen.

    Raises:
        ConfigError: if neither works, or not what the user has chosen.
    """
    if CHOICE in os.environ:
        chosen = os.environ[CHOICE]
        if chosen not in _KNOWN or not _works(chosen):
            raise ConfigError(f"play: {CHOICE}={chosen!r}: does not work here; allowed: {', '.join(_KNOWN)}, or unset")
    elif sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        working = next(filter(_works, ("egl", "osmesa")), None)
        if working is None:
            raise ConfigError(f"play: MuJoCo can draw here by neither EGL nor OSMesa; install one, or set {CHOICE}")
        os.environ[CHOICE] = working


def make_current(env: Any) -> None:
    """Draw with an env's own meshes and textures: several MuJoCo envs share a process, and one context is current."""
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    if viewer is not None:
        viewer.make_context_current()


def _works(name: str) -> bool:
    """Tried in a process of its own: one that fails spoils the next one's import, or ends the process."""
    return subprocess.run([sys.executable, "-c", _TRY.format(name)], capture_output=True, check=False).returncode == 0
