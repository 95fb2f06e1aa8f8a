"""Reading checkpoints: tensors and plain values only, never a pickle, and only where they fit."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varshare_pl.compressed import expand_
from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path

CHECKPOINT_KEY = "varshare"
BEFORE, SHOWN = 40, 100  # characters of what a task is: before the first difference, and in all
MADE_BY = {  # tensors that are there or not by an option
    "observation_moments.": "normalize_observations",
    "return_moments.": "normalize_returns",
    "reward_moments.": "normalize_rewards",
    "popart.": "popart",
}
CONFIG_KEY = "varshare_config"  # the run's config.yaml as text, so that a checkpoint can be used without its folder


def read_checkpoint(path: Path | str, option: str = "--ckpt_path") -> dict[str, Any]:
    """Load a checkpoint of ours to the CPU.

    Raises:
        ConfigError: if there is no such file, or it is no checkpoint of this package.
    """
    path = user_path(path)
    if not path.is_file():
        raise ConfigError(f"{option}: {path} is not a file")
    try:
        # torch takes the file's bytes on trust; the archive's check sums tell a flipped one.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("wrong check sum")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(checkpoint, dict):
            expand_(checkpoint)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise ConfigError(f"{option}: {path} is not a checkpoint, or is damaged ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise ConfigError(f"{option}: {path} is not a checkpoint of varshare")
    return checkpoint


def check_checkpoint(
    checkpoint: Mapping[str, Any],
    identity: Mapping[str, Any],
    state: Mapping[str, Tensor],
    option: str = "--ckpt_path",
) -> None:
    """See that a checkpoint fits a model.

    Args:
        checkpoint: Loaded.
        identity: Suite, number of tasks and sharing method of the model, and what each task is.
        state: The model's state dict.
        option: What brought the checkpoint, named in errors.

    Raises:
        ConfigError: naming the first difference.
    """
    saved = checkpoint.get(CHECKPOINT_KEY)
    if saved is None:
        raise ConfigError(f"{option}: this is not a checkpoint of varshare")
    for key, value in identity.items():
        if key == "tasks":
            check_tasks(saved.get(key, ()), value, option)
        elif saved.get(key) != value:
            raise ConfigError(f"{option}: the checkpoint has {key} {saved.get(key)}, the config has {value}")
    weights = checkpoint["state_dict"]
    for name in sorted(weights.keys() ^ state.keys()):
        where = "checkpoint" if name in weights else "config's model"
        hint = next((f", by model.{key}" for part, key in MADE_BY.items() if part in name), "")
        raise ConfigError(f"{option}: only the {where} has the parameter {name}{hint}")
    for name, tensor in state.items():
        if weights[name].shape != tensor.shape:
            sizes = f"{tuple(weights[name].shape)}, the config's model {tuple(tensor.shape)}"
            raise ConfigError(f"{option}: {name} has the shape {sizes}")


def check_tasks(saved: Sequence[str], tasks: Sequence[str], option: str) -> None:
    for index, (old, new) in enumerate(zip(saved, tasks, strict=False)):
        if old != new:
            same = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            start = max(same - BEFORE, 0)
            old, new = (f"{'…' if start else ''}{task[start : start + SHOWN]}" for task in (old, new))
            raise ConfigError(f"{option}: the checkpoint's task {index} is ({old}), the config's is ({new})")
    if len(saved) != len(tasks):
        raise ConfigError(f"{option}: the checkpoint does not tell its tasks; it was written by an earlier version")


def check_optimizer(checkpoint: Mapping[str, Any]) -> None:
    """See that a checkpoint's optimizer kept one tensor for each parameter.

    Raises:
        ConfigError: if it is an earlier version's, which kept one vector a group.
    """
    for optimizer in checkpoint.get("optimizer_states", ()):
        if all(len(group["params"]) == 1 for group in optimizer["param_groups"]):
            raise ConfigError(
                "--ckpt_path: the checkpoint was written by an earlier version, whose optimizer kept its state "
                "otherwise; start a new run from its weights with --init_from"
            )
