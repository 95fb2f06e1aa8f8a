"""Loading torch and Lightning in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

HEAVY = "varshare_pl.cli.lightning"


def load_run() -> Callable[[list[str], Path | None], int]:
    """Import what trains and evaluates, and give its ``run``.

    The import makes more than half a million objects that stay to the end. Python's garbage collector would search
    all of them several times while they load, again in later full passes, and once more at exit: about a second before
    training and a second after. So it waits until they are there and leaves them out from then on (``gc.freeze``);
    what is made later is collected as ever.
    """
    first, collects = HEAVY not in sys.modules, gc.isenabled()
    if first:
        gc.disable()
    try:
        from varshare_pl.cli.lightning import run
    finally:
        if first:
            gc.freeze()
            if collects:
                gc.enable()
    return run
