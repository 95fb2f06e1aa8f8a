"""Loading torch and Lightning in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from lightning_utilities.core import imports as requirements

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
        with _hidden_from_lightning("matplotlib", "scipy"):
            from varshare_pl.cli.running import run
    finally:
        if first:
            gc.freeze()
            if collects:
                gc.enable()
    return run


@contextmanager
def _hidden_from_lightning(*packages: str) -> Iterator[None]:
    """Let packages that are not loaded yet look as if they were not installed.

    Lightning loads torchmetrics, and that loads all of SciPy and matplotlib where they are there: a second, for
    metrics of sound and for plots that no run makes. It asks lightning_utilities for them.
    """
    hidden = {name for name in packages if name not in sys.modules}
    version = getattr(requirements, "_version", None)
    if version is None or "torchmetrics" in sys.modules or not hidden:
        yield
        return

    def version_of(name: str) -> str:
        if name in hidden:
            raise PackageNotFoundError(name)
        return str(version(name))

    requirements.__dict__["_version"] = version_of
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        requirements.__dict__["_version"] = version
        for name in hidden:
            del sys.modules[name]
        for asked in (requirements.package_available, requirements.module_available):
            asked.cache_clear()
