"""Checking command lines of ``varshare fit`` without running them: as ``fit`` would, up to the networks and envs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from varshare_pl.cli.checks import check_arguments
from varshare_pl.cli.configs import with_shipped_configs
from varshare_pl.cli.lightning import VarShareCLI
from varshare_pl.cli.messages import one_line
from varshare_pl.cli.process import leave_no_trace
from varshare_pl.cli.resume import MAY_CHANGE, WHERE
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import CONFIG_FILE
from varshare_pl.yaml_files import flat, load, read_yaml, same

LENGTH = "data.total_env_steps"
MAY_DIFFER = tuple(key for key in MAY_CHANGE if key != LENGTH)


class CheckCLI(VarShareCLI):
    """The command line of ``fit`` up to the point where module and data are made; nothing is run or written.

    Args:
        args: Command line, beginning with "fit".
    """

    def __init__(self, args: list[str]) -> None:
        super().__init__(with_shipped_configs(check_arguments(args)))

    def before_instantiate_classes(self) -> None:
        """Nothing: the run's folder may hold the run."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        return Trainer(accelerator="cpu", **dict.fromkeys(off, False))  # type: ignore[arg-type]

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""

    def saved(self) -> dict[str, Any]:
        """The config as a run would save it, by full names."""
        text = self._parser("fit").dump(self._config, skip_unset=False)
        return flat(load(text))


def check_variant(args: list[str], folders: list[Path]) -> dict[str, Any]:
    """See that a command line of ``fit`` can run, and that runs which are there are of it; gives all options by name.

    Args:
        args: Command line without seed, beginning with "fit".
        folders: Where its runs land, one per seed.

    Raises:
        ConfigError: what ``fit`` would say, or that a folder holds a run with other options.
    """
    with leave_no_trace():
        try:
            cli = CheckCLI(args)
        except MisconfigurationException as error:
            raise ConfigError(one_line(str(error))) from error
    wanted = cli.saved()
    for folder in folders:
        path = folder / CONFIG_FILE
        if path.is_file():
            _check_same(folder, flat(read_yaml(path)), wanted)
    return wanted


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A key that one of the two does not have came with a later version."""
    for key, value in wanted.items():
        if key in (*WHERE, "seed_everything") or key.startswith(MAY_DIFFER) or key not in found:
            continue
        if not same(found[key], value):
            raise ConfigError(
                f"{key}: the study has {value}, the run in {folder} has {found[key]}; "
                "give the study another name, or move the run away"
            )
