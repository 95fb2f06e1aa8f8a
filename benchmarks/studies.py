"""What it costs to run runs as a study, start-up of each included."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cases import Figures

WORKERS = 2
SEEDS = 5
SUITES = ("complex_cartpole", "mirrored_cartpole")
METHODS = ("varshare", "shared")
ENV_STEPS = 51_200


def scheduling(scale: float) -> Figures:
    """Twenty short runs with two workers; ``share`` is their time over that of twenty single runs on two cores.

    A variant's single run is `varshare fit` with its first seed.
    """
    steps, seeds = max(5120, int(ENV_STEPS * scale)), SEEDS if scale == 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        options = f"{{data.total_env_steps: {steps}, plots.enabled: false}}"
        methods = ", ".join(f"methods/{name}" for name in METHODS)
        study = f"suites: [{', '.join(SUITES)}]\nmethods: [{methods}]\nseeds: 1-{seeds}\noverrides: {options}\n"
        Path(folder, "short.yaml").write_text(study, encoding="utf-8")
        together = _seconds(folder, "study", "short.yaml", "--workers", str(WORKERS))
        alone = 0.0
        for suite in SUITES:
            for method in METHODS:
                args = ["--config", suite, "--config", f"methods/{method}", "--data.total_env_steps", str(steps)]
                alone += _seconds(folder, "fit", *args, "--plots.enabled", "false") * seeds
    return {"seconds": together, "alone_s": alone, "share": together / (alone / WORKERS)}


def _seconds(folder: str, *args: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "varshare_pl", *args], cwd=folder, check=True, stdout=sys.stderr)
    return time.perf_counter() - start
