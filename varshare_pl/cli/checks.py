"""Checks of the input before anything is built: options that are not for the user, and the content of config files."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from varshare_pl.cli.messages import unknown_key
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import config_file
from varshare_pl.yaml_files import load, read_yaml

_LENGTH = "the length of a run is data.total_env_steps"
_VALIDATION = "evaluation.every and evaluation.episodes say when and how to evaluate"
_OWN_FILES = "--logs_dir and --experiment say where a run goes"

TRAINER_DEFAULTS = {
    "accelerator": "cpu",  # faster than a GPU for nets of this size
    "devices": 1,
    "logger": False,  # heartbeat.csv is always written
    "enable_progress_bar": False,  # ours replaces it
    "enable_model_summary": False,
}
TRAINER_FIXED = {
    "max_epochs": 1,  # the run's length is data.total_env_steps
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,  # a step is a rollout
}
REFUSED_TRAINER_OPTIONS = {
    "gradient_clip_val": "model.max_grad_norm clips gradients",
    "gradient_clip_algorithm": "model.max_grad_norm clips gradients",
    "accumulate_grad_batches": "model.minibatch_size sets the size of a gradient step",
    "default_root_dir": _OWN_FILES,
    "max_epochs": _LENGTH,
    "min_epochs": _LENGTH,
    "max_steps": _LENGTH,
    "min_steps": _LENGTH,
    "max_time": _LENGTH,
    "fast_dev_run": _LENGTH,
    "limit_train_batches": _LENGTH,
    "overfit_batches": _LENGTH,
    "reload_dataloaders_every_n_epochs": _LENGTH,
    "limit_val_batches": _VALIDATION,
    "limit_test_batches": _VALIDATION,
    "limit_predict_batches": _VALIDATION,
    "val_check_interval": _VALIDATION,
    "check_val_every_n_epoch": _VALIDATION,
    "num_sanity_val_steps": _VALIDATION,
    "log_every_n_steps": "every rollout is logged",
    "enable_checkpointing": "checkpoint.every says when to save",
    "barebones": "leave out loggers and plots.enabled instead",
    "model_registry": _OWN_FILES,
    "sync_batchnorm": "no network has batch norm",
    "use_distributed_sampler": "rollouts are collected, not sampled",
}
"""Options of Lightning's Trainer that do nothing here or break a run, and what does their work."""

_SEED = "it follows --seed_everything"
REFUSED = {f"trainer.{name}": reason for name, reason in REFUSED_TRAINER_OPTIONS.items()} | {
    "data.seed": _SEED,
    "model.seed": _SEED,
    "model.spec": "it follows from data",
}

_NUMBER = re.compile(r"-(inf|nan|\.inf|\.nan|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.IGNORECASE)


def check_refused(key: str) -> None:
    """Tell of an option that is not for the user what to use in its place.

    Raises:
        ConfigError: if it is one.
    """
    reason = REFUSED.get("model.spec" if key.startswith("model.spec.") else key)
    if reason is not None:
        raise ConfigError(f"{key}: not allowed; {reason}")


def check_arguments(args: list[str]) -> list[str]:
    """Refuse options that are not for the user; gives the arguments in a form that the parser understands.

    Negative numbers are joined to their options, for ``--x -1e-3`` would be read as two options; ``--overwrite`` alone
    means true.
    """
    checked: list[str] = []
    for i, arg in enumerate(args):
        if arg.startswith("--"):
            check_refused(arg[2:].partition("=")[0])
        if _NUMBER.fullmatch(arg) and checked[-1].startswith("--") and "=" not in checked[-1]:
            checked[-1] += f"={arg}"
        elif arg == "--overwrite" and (i + 1 == len(args) or args[i + 1].startswith("-")):
            checked.append("--overwrite=true")
        else:
            checked.append(arg)
    return checked


def resume_arguments(folder: Path, options: list[str]) -> list[str]:
    """The arguments of the ``fit`` that goes on with the run in a folder, checked.

    Raises:
        ConfigError: if it is not the folder of a run, or an option is not for the user.
    """
    return check_arguments(["fit", "--config", str(config_file(folder, "resume")), *options, "--ckpt_path", "last"])


def check_config_file(path: str, keys: Collection[str]) -> None:
    """See that a config file is YAML with sections and keys that exist; the parser would let some mistakes pass.

    Args:
        path: The file.
        keys: All keys, as "model.kl_weight".

    Raises:
        ConfigError: naming the file and the key.
    """
    content = read_yaml(path, "--config")
    if not isinstance(content, dict):
        what = "is empty" if content is None else "does not hold keys with values"
        raise ConfigError(f"--config: {path} {what}; sections such as data and model are needed")
    for key, value in content.items():
        _check_key(str(key), value, path, keys)


def check_values(args: list[str], keys: Collection[str]) -> None:
    """See that lists and mappings on the command line, and files with a section there, hold nothing twice or unclear.

    Where text is allowed as well, the parser would take the whole value for text.

    Args:
        args: Command line.
        keys: All keys, as "model.kl_weight".

    Raises:
        ConfigError: naming the key.
    """
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        value = value if equals else "".join(args[i + 1 : i + 2])
        key = flag.removeprefix("--")
        if any(name.startswith(f"{key}.") for name in keys) and Path(value).is_file():
            read_yaml(value, flag)
        elif key != flag and value.lstrip().startswith(("[", "{")):
            _check_value(key, value)


def _check_value(key: str, value: str) -> None:
    with suppress(yaml.YAMLError):  # the parser's to tell
        try:
            load(value)
        except ConfigError as error:
            raise ConfigError(f"{key}.{error}".replace(".[", "[", 1)) from None


def config_files(args: list[str]) -> list[str]:
    """The files given by ``--config``."""
    files = []
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in ("--config", "-c") and (equals or i + 1 < len(args)):
            files.append(value if equals else args[i + 1])
    return files


def _check_key(key: str, value: Any, path: str, keys: Collection[str]) -> None:
    check_refused(key)
    if key.removesuffix("+") in keys:
        return
    if not any(name.startswith(f"{key}.") for name in keys):
        sections = {name.partition(".")[0] for name in keys}
        raise ConfigError(f"{unknown_key(key, sections | set(keys))} ({path})")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_key(f"{key}.{name}", item, path, keys)
    elif isinstance(value, str):  # the path of a file with the section
        file = Path(path).parent / value
        if file.is_file():
            read_yaml(file, key)
    elif value is not None:
        raise ConfigError(f"{key}: {value} is not allowed; a section with keys and values is ({path})")
