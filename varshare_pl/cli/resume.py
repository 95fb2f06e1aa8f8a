"""Going on with a run: which folder, which checkpoint, and which options may differ from the run's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace

from varshare_pl.callbacks.checkpoint import LAST, PREVIOUS
from varshare_pl.checkpoints import CHECKPOINT_KEY, read_checkpoint
from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.run_folder import CHECKPOINTS, CONFIG_FILE, SUMMARY_FILE
from varshare_pl.yaml_files import same

MAY_CHANGE = (
    "trainer.",
    "logger",
    "plots.",
    "progress.",
    "checkpoint.",
    "artifacts.",
    "threads",
    "data.total_env_steps",
    "data.backend",  # the states of all backends are the same
    "data.num_workers",
    "data.worker_timeout",
)
WHERE = (
    "ckpt_path",
    "overwrite",
    "logs_dir",
    "experiment",
    "config",
    "init_from",
)  # find the run, or say nothing of it


def run_config(
    folder: Path, given: Namespace, explicit: list[str], parse: Callable[[list[str]], Namespace]
) -> Namespace:
    """The config to go on with: the run's own, with what the command line may change.

    Args:
        folder: Of the run.
        given: What the command line and its config files say.
        explicit: The command line's options without its config files.
        parse: Options to config.

    Raises:
        ConfigError: if there is no run, or an option would make another run of it.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"--ckpt_path: {folder} holds no run to go on with; --init_from starts one from weights")
    own = parse(["--config", str(path)])
    final = parse(["--config", str(path), *explicit])
    for key, value in own.items():
        if key in WHERE or key.startswith(MAY_CHANGE):
            continue
        for other in (final.get(key), given.get(key)):
            if not same(other, value):
                raise ConfigError(f"{key}: {other} is not allowed when going on with {folder}; the run has {value}")
    return final


def without_configs(args: list[str]) -> list[str]:
    """Arguments without ``--config`` and ``--ckpt_path`` and their values."""
    kept: list[str] = []
    skip = False
    for arg in args:
        flag, equals, _ = arg.partition("=")
        if skip:
            skip = False
        elif flag in ("--config", "-c", "--ckpt_path"):
            skip = not equals
        else:
            kept.append(arg)
    return kept


def choose_checkpoint(folder: Path, wanted: str, total_env_steps: int) -> Path | None:
    """The checkpoint to load: the file that is wanted, or for "last" the newest that is whole.

    Gives None where the run was stopped before its first checkpoint: then it starts again from the beginning.

    Raises:
        ConfigError: if it is damaged, or the run has nothing left to do.
    """
    path = newest_checkpoint(folder) if wanted == "last" else user_path(wanted)
    if path is None:
        print(f"{folder}: no checkpoint yet; starting from the beginning", file=sys.stderr)
        return None
    if "pruned" in read_checkpoint(path)[CHECKPOINT_KEY]:
        raise ConfigError(
            f"--ckpt_path: {path} is pruned and has no optimizer state to go on with; --init_from starts a new run "
            "from its weights"
        )
    if wanted == "last" and not (folder / SUMMARY_FILE).exists() and _env_steps(path) >= total_env_steps:
        # Killed between its last checkpoint and its summary: the end is made again, from the checkpoint before.
        path = folder / CHECKPOINTS / PREVIOUS
        if not path.exists() or _env_steps(path) >= total_env_steps:
            return None
    env_steps = _env_steps(path)
    if env_steps >= total_env_steps:
        raise ConfigError(
            f"data.total_env_steps: the run in {folder} is finished after {env_steps} env steps; "
            "a larger data.total_env_steps extends it"
        )
    return path


def _env_steps(checkpoint: Path) -> int:
    return int(read_checkpoint(checkpoint)[CHECKPOINT_KEY]["env_steps"])


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, told on stderr where that is not the last; None if there is none at all."""
    damage: ConfigError | None = None
    for name in (LAST, PREVIOUS):
        path = folder / CHECKPOINTS / name
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except ConfigError as error:
            damage = error
            continue
        if damage is not None:
            print(f"{' '.join(str(damage).split())}; going on from {path}", file=sys.stderr)
        return path
    if damage is not None:
        raise damage
    return None
