"""``varshare prune``: its options. What prunes takes seconds to import and is loaded once they are right."""

from __future__ import annotations

import math
from pathlib import Path

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.cli.imports import load_run
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import CHECKPOINTS, config_file

PRUNED = "pruned"


def prune(args: list[str]) -> int:
    """Run ``prune`` with these command-line arguments, the first being "prune"; gives the exit code."""
    parser = CommandParser(
        "prune",
        "Write checkpoints in which the difference of a task from the shared weights is 0 where it is "
        "below T posterior standard deviations, to RUN/pruned, with a report (prune.json). They load wherever a "
        "checkpoint does but to resume a run.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of a run, as logs/NAME/seed_1")
    parser.add_argument(
        "--threshold", type=float, nargs="+", required=True, metavar="T", help="one or more; a checkpoint for each"
    )
    parser.add_argument(
        "--ckpt_path", type=path_argument, metavar="FILE", help="checkpoint to prune; default: the run's last"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in RUN/pruned")
    options = parser.parse_args(args[1:])
    run: Path = options.run
    thresholds = sorted(set(options.threshold))
    for threshold in thresholds:
        if not (math.isfinite(threshold) and threshold >= 0):
            raise ConfigError(f"--threshold: {threshold} is not allowed; numbers of at least 0 are")
    config_file(run, "prune")
    if (run / PRUNED).exists() and not options.overwrite:
        raise ConfigError(f"prune: {run / PRUNED} is there already; --overwrite replaces it")

    load_run()
    from varshare_pl.cli.pruned_checkpoints import write_pruned

    path: Path = options.ckpt_path or run / CHECKPOINTS / "last.ckpt"
    print(write_pruned(run, path, thresholds, run / PRUNED))
    return 0
