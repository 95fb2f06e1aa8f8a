"""``varshare describe``: the networks of a config and how large they are, before any training."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from varshare_pl.cli.help import DESCRIPTION, USAGE
from varshare_pl.cli.lightning import VarShareCLI
from varshare_pl.cli.messages import one_line
from varshare_pl.cli.process import leave_no_trace
from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.size import Size, network_sizes, parameter_rows, total_size
from varshare_pl.results.table import text_table


class DescribeCLI(VarShareCLI):
    """The command line of ``validate`` up to the point where module and data are made; nothing is run or written.

    Args:
        args: Command line, beginning with "describe".
    """

    def __init__(self, args: list[str]) -> None:
        super().__init__(["validate", *args[1:]])

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        texts = {"usage": USAGE["describe"], "description": DESCRIPTION["describe"]}
        parser = super()._prepare_subcommand_parser(klass, subcommand, **{**kwargs, **texts})
        next(action for action in parser._actions if action.dest == "ckpt_path").help = SUPPRESS
        return parser

    def before_instantiate_classes(self) -> None:
        if self._config.ckpt_path is not None:  # a run's config holds the key
            raise ConfigError("--ckpt_path: not allowed; describe needs no checkpoint")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        return Trainer(accelerator="cpu", **dict.fromkeys(off, False))  # type: ignore[arg-type]

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


def describe(args: list[str]) -> int:
    """Run ``describe`` with these command-line arguments, the first being "describe"; gives the exit code."""
    with leave_no_trace():
        try:
            cli = DescribeCLI(args)
        except MisconfigurationException as error:
            raise ConfigError(one_line(str(error))) from error
    print(description(cli.model.policy, cli.model.spec.obs_size))
    return 0


def description(policy: ActorCritic, obs_size: int) -> str:
    """Two tables: every parameter, and the size of each network."""
    listed = parameter_rows(policy)
    rows = [("network", "parameter", "shape", "count")]
    rows += [(row.network, row.name, " × ".join(map(str, row.shape)), f"{row.count:,}") for row in listed]
    rows.append(("total", "", "", f"{sum(row.count for row in listed):,}"))
    sizes = network_sizes(policy, obs_size)
    summed = [("network", "", "stored", "active per task", "FLOPs per row")]
    summed += [(name, "", *_numbers(size)) for name, size in sizes.items()]
    summed.append(("total", "", *_numbers(total_size(sizes.values()))))
    notes = (
        f"hidden sizes: {', '.join(map(str, policy.hidden_sizes))}; tasks: {policy.num_tasks}",
        "active: what the evaluation of one task uses; FLOPs: 2 × multiply-adds",
    )
    return "\n".join([*text_table(rows), "", *text_table(summed), *notes])


def _numbers(size: Size) -> tuple[str, str, str]:
    return f"{size.stored:,}", f"{size.active:,}", f"{size.flops:,}"
