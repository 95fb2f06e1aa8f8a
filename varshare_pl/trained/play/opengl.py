"""How MuJoCo draws where there is no display."""

from __future__ import annotations

import os
import subprocess
import sys

from varshare_pl.errors import ConfigError

CHOICE = "MUJOCO_GL"  # the environment variable that MuJoCo and Gymnasium read
_TRY = "from mujoco.{} import GLContext; GLContext(8, 8).make_current()"


def choose_opengl() -> None:
    """Take EGL, or OSMesa, whichever works, unless the user has chosen or there is a display.

    Raises:
        ConfigError: if neither works.
    """
    if CHOICE in os.environ or sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    for name in ("egl", "osmesa"):
        # In a process of its own: one that fails spoils the next one's import, or ends the process.
        tried = subprocess.run([sys.executable, "-c", _TRY.format(name)], capture_output=True, check=False)
        if tried.returncode == 0:
            os.environ[CHOICE] = name
            return
    raise ConfigError("play: MuJoCo can draw here by neither EGL nor OSMesa; install one, or set MUJOCO_GL")
