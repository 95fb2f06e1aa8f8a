"""A run of a shipped config from the command line, and how much its actor shares in the end."""

import json
from pathlib import Path
from typing import Any

from varshare_pl.cli.main import main
from varshare_pl.results.files import read_diagnostics


def train(logs: Path, seed: int, *args: str, every: int = 0) -> tuple[dict[str, Any], dict[str, float]]:
    """The summary of a run and the final sharing energy S of the actor's layers; evaluated at the end, or more often.

    Evaluations change nothing of the training, and would take a third of a run's time.
    """
    args = (*args, "--evaluation.every", str(every))
    common = ["--logs_dir", str(logs), "--experiment", "x", "--seed_everything", str(seed), "--plots.enabled", "false"]
    assert main(["fit", *args, *common]) == 0
    run = logs / "x" / f"seed_{seed}"
    rows = read_diagnostics(run).where("sharing/energy", network="actor")
    energy = {
        str(layer): float(value) for layer, value in zip(rows.layer, rows.value, strict=True)
    }  # the last one stays
    return json.loads((run / "summary.json").read_text()), energy
