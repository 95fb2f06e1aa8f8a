"""``varshare fit`` and ``varshare validate`` on LightningCLI."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.loggers import MetricsToLoggers
from varshare_pl.callbacks.plots import Plots
from varshare_pl.callbacks.progress import ProgressLine
from varshare_pl.callbacks.run_files import RunFiles
from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.cli.parser import VarShareParser, expand_method_arguments
from varshare_pl.errors import ConfigError
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.run_folder import check_free, default_experiment, run_folder

TRAINER_DEFAULTS = {
    "accelerator": "cpu",  # faster than a GPU for nets of this size
    "devices": 1,
    "logger": False,  # heartbeat.csv is always written
    "max_epochs": 1,  # the run's length is data.total_env_steps
    "enable_progress_bar": False,  # ours replaces it
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class VarShareCLI(LightningCLI):
    """LightningCLI with our callbacks, run folder and links."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"model.sharing": {"class_path": "varshare_pl.sharing.varshare.VarShare"}})
        parser.add_argument(
            "--experiment",
            type=str | None,
            default=None,
            help="Name of the experiment, the folder under logs_dir; null: made from suite and method.",
        )
        parser.add_argument("--logs_dir", type=str, default="logs", help="Where runs go: logs_dir/experiment/seed_N/.")
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="Replace a run that is in the run's folder already."
        )
        parser.add_argument(
            "--threads", type=PositiveInt, default=1, help="Threads of torch; more than 1 slows small nets down."
        )
        parser.add_lightning_class_args(Evaluation, "evaluation")
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(ProgressLine, "progress")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=seed_of)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=seed_of)
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        skip = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders"}
        return {"fit": skip, "validate": skip}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        config = self._config
        torch.set_num_threads(config.threads)
        if config.trainer.default_root_dir is not None:
            raise ConfigError("trainer.default_root_dir: is not allowed; --logs_dir and --experiment are")
        if config.ckpt_path is not None:
            read_checkpoint(config.ckpt_path)
        elif self.subcommand == "validate":
            raise ConfigError("--ckpt_path: missing; the checkpoint to validate is needed")
        if config.experiment is not None:
            self._folder()  # a bad name or a folder in use is told before anything is built

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._config
        if config.experiment is None:
            config.experiment = default_experiment(self.datamodule.suite.name, self.model.method_name)
        folder = self._folder()
        init = self._get(self.config_init, "trainer", default={})
        own = {key: self._get(self.config_init, key) for key in ("evaluation", "plots", "progress", "checkpoint")}
        users = init.pop("callbacks", None) or []
        users = users if isinstance(users, list) else [users]
        callbacks = [own["evaluation"], *users]
        if self.subcommand == "fit":
            run_files = RunFiles(self._save_config, own["evaluation"], config.experiment, config.overwrite)
            recorders = [Heartbeat(), MetricsToLoggers(), own["plots"], own["progress"], own["checkpoint"]]
            callbacks = [run_files, *callbacks, *recorders]
        return Trainer(**{**init, **kwargs, "callbacks": callbacks, "default_root_dir": folder})

    @property
    def _config(self) -> Namespace:
        return self.config[self.subcommand]

    def _folder(self) -> Path:
        config = self._config
        folder = run_folder(config.logs_dir, config.experiment, seed_of(config.seed_everything))
        if self.subcommand == "fit":
            check_free(folder, config.overwrite)
        return folder

    def _save_config(self, path: Path) -> None:
        config = self._config.clone()
        config.overwrite = False  # a saved config, used again, must not delete a run
        self._parser(self.subcommand).save(config, path, skip_none=False, overwrite=True, multifile=False)


def seed_of(value: bool | int) -> int:
    """The run's seed; LightningCLI would take true and false too."""
    if isinstance(value, bool) or value < 0:
        raise ConfigError(f"--seed_everything: {value} is not allowed; an integer of at least 0 is")
    return value


def run(args: list[str]) -> int:
    """Run ``fit`` or ``validate`` with these command-line arguments; gives the exit code."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    try:
        VarShareCLI(
            PPOModule,
            RolloutDataModule,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=1,
            parser_class=VarShareParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=expand_method_arguments(args),
        )
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
    return 0
