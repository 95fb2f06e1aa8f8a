"""``varshare fit`` and ``varshare validate`` on LightningCLI."""

from __future__ import annotations

import math
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from varshare_pl.callbacks.artifacts import Artifacts
from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.logged_values import Level
from varshare_pl.callbacks.logger_classes import logger_names
from varshare_pl.callbacks.loggers import MetricsToLoggers
from varshare_pl.callbacks.plots import Plots
from varshare_pl.callbacks.progress import ProgressLine
from varshare_pl.callbacks.run_files import RunFiles
from varshare_pl.callbacks.signals import Signals
from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.cli.checks import (
    REFUSED_TRAINER_OPTIONS,
    TRAINER_DEFAULTS,
    TRAINER_FIXED,
    check_config_file,
    check_values,
    config_files,
)
from varshare_pl.cli.help import DESCRIPTION, USAGE
from varshare_pl.cli.messages import not_made, one_line
from varshare_pl.cli.parser import VarShareParser, parse_command, plain
from varshare_pl.cli.process import end_other_processes
from varshare_pl.cli.resume import choose_checkpoint, run_config, without_configs
from varshare_pl.cli.reuse import ReusedParsers
from varshare_pl.errors import ConfigError
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.run_folder import check_free, default_experiment, of_trial, run_folder

LARGEST = {"seed_everything": 2**32 - 1, "data.total_env_steps": sys.maxsize}
RECORDERS = ("plots", "progress", "checkpoint", "artifacts")  # callbacks with options, in the order of their calls


class VarShareCLI(ReusedParsers):
    """LightningCLI with our callbacks, run folder and links.

    Args:
        args: Command line, beginning with "fit" or "validate".
        resume: Folder of the run to go on with; ``--ckpt_path`` finds it by the config instead.
        lines: Print lines of progress where there is no terminal.
    """

    def __init__(self, args: list[str], resume: Path | None = None, lines: bool = False) -> None:
        self.resume = resume
        self.lines = lines
        self.signals = Signals()
        self._command = args[0]
        super().__init__(
            PPOModule,
            RolloutDataModule,
            save_config_callback=None,
            parser_class=VarShareParser,
            parser_kwargs={args[0]: {"usage": USAGE[args[0]], "description": DESCRIPTION[args[0]]}},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything",
            type=NonNegativeInt,
            default=1,
            help="Seed of envs, weights and noise, in the folder's name.",
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(RolloutDataModule, "data")
        parser.add_lightning_class_args(PPOModule, "model")
        parser.set_defaults({"model.sharing": {"class_path": "varshare_pl.sharing.varshare.VarShare"}})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
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
            "--logger",
            type=list[str] | str | None,
            default=None,
            help="wandb, tensorboard, csv, or several as wandb,csv; in a config file also [wandb, csv].",
        )
        parser.add_argument(
            "--logger_detail",
            type=Level,
            default="tasks",
            help="What loggers get: means over tasks; tasks, the returns of each too; all, also by network and layer.",
        )
        parser.add_argument(
            "--threads", type=PositiveInt, default=1, help="Threads of torch; more than 1 slows small nets down."
        )
        parser.add_lightning_class_args(Evaluation, "evaluation")
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(ProgressLine, "progress")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.add_lightning_class_args(Artifacts, "artifacts")
        like_lightning: dict[str, Any] = {"instantiate": False, "fail_untyped": False, "sub_configs": True}
        parser.add_class_arguments(Trainer, "trainer", skip=set(REFUSED_TRAINER_OPTIONS), **like_lightning)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")
        for name in ("spec", "plan"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        links = next(group for group in parser._action_groups if group.title == "Linked arguments")
        for action in links._group_actions:
            action.help = SUPPRESS  # not for the user
        assert parser.groups is not None
        parser.groups["trainer"].title = "Lightning's Trainer"

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = super().init_parser(**kwargs)
        next(
            action for action in parser._actions if action.dest == "config"
        ).help = "Name of a shipped config, e.g. complex_cartpole, or a YAML file; several are merged, later ones win."
        return parser

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there
        """The one that is asked for; the other's parser would take as long to build."""
        ours = {"model", "datamodule", "ckpt_path", "weights_only"}
        commands = {
            "fit": ours | {"train_dataloaders", "val_dataloaders"},
            "validate": ours | {"dataloaders", "verbose"},
        }
        return {self._command: commands[self._command]}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        texts = {
            "ckpt_path": "Go on with the run in the run's folder: last, or a checkpoint file of it.",
            "init_from": "Start a new run from a checkpoint's weights; data.suite may add tasks.",
        }
        if subcommand == "validate":  # a run's config may hold init_from
            texts = {"ckpt_path": "Checkpoint to evaluate; needed.", "init_from": SUPPRESS}
        for key, text in texts.items():
            parser.add_argument(f"--{key}", type=str | None, default=None, help=text)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        known = self._subcommand_parsers[args[0]]
        assert isinstance(known, VarShareParser)
        for path in config_files(args):
            check_config_file(path, known.keys())
        check_values(args, known.keys())
        self.config = parse_command(parser, args)
        if args[0] == "fit" and self.config.fit.ckpt_path is not None:
            self._parse_resume(parser, args[1:])
        config = self.config[args[0]]
        for key, value in config.items():
            config[key] = plain(value)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{key}: {value} is not allowed; a finite number is")
        for key, largest in LARGEST.items():
            if config[key] > largest:
                raise ConfigError(f"{key}: {config[key]} is not allowed; at most {largest} is")

    def _parse_resume(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Put the run's own config in place of the one given, see that they agree, and find the checkpoint."""

        def parse(options: list[str]) -> Namespace:
            return parse_command(parser, ["fit", *options])

        given = self.config.fit
        if any(arg.partition("=")[0] == "--init_from" for arg in args):  # a run's own config may hold it
            raise ConfigError("--init_from: not allowed with --ckpt_path; it starts a new run")
        if self.resume is None:
            if given.experiment is None:
                raise ConfigError(
                    "--experiment: needed with --ckpt_path; or use 'varshare resume' with the run's folder"
                )
            self.resume = run_folder(given.logs_dir, given.experiment, given.seed_everything)
        final = run_config(self.resume, given, without_configs(args), lambda options: parse(options).fit)
        self.config.fit = final
        checkpoint = choose_checkpoint(self.resume, given.ckpt_path, final.data.total_env_steps)
        final.ckpt_path = None if checkpoint is None else str(checkpoint)

    def _parse_ckpt_path(self) -> None:
        """Nothing: LightningCLI would let a checkpoint's hyperparameters overrule the config, silently."""

    def before_instantiate_classes(self) -> None:
        config = self._config
        torch.set_num_threads(config.threads)
        if self.subcommand == "fit":
            config.logger = logger_names(config.logger) or None
        if self.subcommand == "validate":
            if config.ckpt_path is None:
                raise ConfigError("--ckpt_path: missing; the checkpoint to evaluate is needed")
            read_checkpoint(config.ckpt_path)
        if config.experiment is not None:
            self._name(config.experiment)
            self._folder()  # a bad name or a folder in use is told before anything is built

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ConfigError:
            raise
        except ValueError as error:  # of a class that the Trainer gets, such as a logger whose package is missing
            raise ConfigError(not_made(str(error), vars(self._config.trainer))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._config
        if config.experiment is None:
            names = (self.datamodule.suite.name, self.model.method_name, self.model.combiner_name)
            self._name(default_experiment(*names))
        folder = self._folder()
        if self.subcommand == "fit" and config.init_from is not None and config.ckpt_path is None:
            self.model.load_weights(read_checkpoint(config.init_from, "--init_from"))
        init = self._get(self.config_init, "trainer", default={})
        own = {key: self._get(self.config_init, key) for key in ("evaluation", *RECORDERS)}
        users = init.pop("callbacks", None) or []
        users = users if isinstance(users, list) else [users]
        callbacks = [self.signals, own["evaluation"], *users]
        recorder = MetricsToLoggers(config.logger or () if self.subcommand == "fit" else (), config.logger_detail)
        if self.subcommand == "fit":
            told = config.experiment, config.overwrite, self.resume is not None
            run_files = RunFiles(self._save_config, own["evaluation"].evaluator, *told)
            own["progress"].lines = self.lines
            callbacks = [run_files, *callbacks, Heartbeat(), recorder, *(own[key] for key in RECORDERS)]
        options = {**init, **TRAINER_FIXED, **kwargs, "callbacks": callbacks, "default_root_dir": folder}
        try:
            trainer = Trainer(**options)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise ConfigError(f"trainer: {one_line(str(error))}") from error
        recorder.deferred, trainer.loggers = trainer.loggers, []  # validate writes nothing
        if self.subcommand == "fit":
            own["artifacts"].check(recorder.names, recorder.deferred)
        return trainer

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """What ``varshare fit`` runs."""
        with end_other_processes(self.trainer):
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=self._config.ckpt_path, weights_only=True)

    def validate(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """What ``varshare validate`` runs."""
        # The Evaluation callback prints the table; Lightning's own would repeat it.
        options: dict[str, Any] = {"ckpt_path": self._config.ckpt_path, "verbose": False, "weights_only": True}
        with end_other_processes(self.trainer):
            self.trainer.validate(model, datamodule=datamodule, **options)

    @property
    def _config(self) -> Namespace:
        config = self.config[self.subcommand]
        assert isinstance(config, Namespace)
        return config

    def _name(self, experiment: str) -> None:
        new = self.subcommand == "fit" and self.resume is None
        self._config.experiment = of_trial(experiment) if new else experiment

    def _folder(self) -> Path:
        if self.resume is not None:
            return self.resume
        config = self._config
        folder = run_folder(config.logs_dir, config.experiment, config.seed_everything)
        if self.subcommand == "fit":
            check_free(folder, config.overwrite)
        return folder

    def _save_config(self, path: Path) -> None:
        config = self._config.clone()
        config.overwrite = False  # a saved config, used again, must not delete a run
        config.ckpt_path = None
        self._parser(self.subcommand).save(config, path, skip_unset=False, overwrite=True, multifile=False)
