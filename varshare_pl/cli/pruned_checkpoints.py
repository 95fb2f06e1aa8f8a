"""The work of ``varshare prune``: compressed checkpoints of a run, and what they cost in return."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from varshare_pl.checkpoints import CHECKPOINT_KEY, read_checkpoint
from varshare_pl.cli.describe import DescribeCLI
from varshare_pl.cli.process import leave_no_trace
from varshare_pl.compressed import COMPRESSED_KEY, compress, weight_bytes
from varshare_pl.errors import ConfigError
from varshare_pl.files import fsync, write_json
from varshare_pl.results.table import text_table
from varshare_pl.run_folder import CONFIG_FILE
from varshare_pl.sharing.varshare.pruning import mean_log_var, prunable_layers, prune_
from varshare_pl.trained.evaluation import EvaluationResult
from varshare_pl.trained.evaluator import Evaluator

PRUNE_FILE = "prune.json"
TRAINING_ONLY = ("optimizer_states", "lr_schedulers", "callbacks", "RolloutDataModule")  # of what a checkpoint holds


@dataclass(frozen=True)
class Pruned:
    """What one threshold gave."""

    threshold: float
    checkpoint: dict[str, Any]
    kept: dict[str, list[int]]  # by layer, how many μ̃ of each task are left
    result: EvaluationResult

    @property
    def file(self) -> str:
        return f"threshold_{_text(self.threshold)}.ckpt"


def _text(threshold: float) -> str:
    return repr(threshold).removesuffix(".0")


def write_pruned(run: Path, path: Path, thresholds: Sequence[float], folder: Path) -> str:
    """Prune a run's checkpoint at each threshold, evaluate, and write it all to a folder, replaced if it is there.

    Args:
        run: Folder of the run.
        path: The checkpoint.
        thresholds: In posterior standard deviations.
        folder: For the new checkpoints and the report.

    Returns:
        The report for people.

    Raises:
        ConfigError: if the checkpoint cannot be pruned.
    """
    checkpoint = read_checkpoint(path)
    if "pruned" in checkpoint[CHECKPOINT_KEY]:
        raise ConfigError(f"--ckpt_path: {path} is pruned already; give the checkpoint that it was made from")

    with leave_no_trace():
        cli = DescribeCLI(["describe", "--config", str(run / CONFIG_FILE)])
    cli.model.on_load_checkpoint(checkpoint)  # see that it fits
    if not prunable_layers(cli.model):
        raise ConfigError(
            f"prune: the networks of {run} ({cli.model.method_name}) have no residuals with a σ per weight; only "
            "varshare has, without deterministic and rank"
        )
    with closing(_how(cli)):
        before = _evaluate(cli, checkpoint)
        found = [_prune(cli, checkpoint, threshold) for threshold in thresholds]
    report = _write(folder, path, checkpoint, before, found)
    return f"{_tables(cli, before, found, report)}\nwritten: {folder}"


def _evaluate(cli: DescribeCLI, checkpoint: dict[str, Any]) -> EvaluationResult:
    """As ``varshare validate`` does, of the weights that a checkpoint gives."""
    module = cli.model
    module.load_state_dict(checkpoint["state_dict"])
    env_steps = checkpoint[CHECKPOINT_KEY]["env_steps"]
    return _how(cli).play(module.policy.deterministic(), cli.datamodule, module.seed, env_steps)


def _how(cli: DescribeCLI) -> Evaluator:
    """What evaluates, with the run's settings."""
    evaluator: Evaluator = cli.config_init[cli.subcommand].evaluation.evaluator
    return evaluator


def _prune(cli: DescribeCLI, checkpoint: dict[str, Any], threshold: float) -> Pruned:
    module = cli.model
    module.load_state_dict(checkpoint["state_dict"])
    layers = prunable_layers(module)
    kept = {name: prune_(layer, threshold).tolist() for name, layer in layers.items()}
    told = {**checkpoint[CHECKPOINT_KEY], "pruned": threshold}
    rest = {key: value for key, value in checkpoint.items() if key not in TRAINING_ONLY}
    whole = {**rest, CHECKPOINT_KEY: told, "state_dict": copy.deepcopy(module.state_dict())}
    small = compress(
        whole,
        sparse=[f"{name}.mu" for name in layers],
        filled={f"{name}.log_var": mean_log_var(layer) for name, layer in layers.items()},
    )
    return Pruned(threshold, small, kept, _evaluate(cli, whole))


def _write(
    folder: Path, path: Path, checkpoint: dict[str, Any], before: EvaluationResult, found: list[Pruned]
) -> dict[str, Any]:
    """The checkpoints and the report, all or nothing; gives the report."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    report: dict[str, Any] = {
        "checkpoint": str(path),
        "env_steps": checkpoint[CHECKPOINT_KEY]["env_steps"],
        "evaluation": "deterministic: posterior mean, most likely action",
        "before": _side(path, checkpoint, before),
        "pruned": [],
    }
    for one in found:
        torch.save(one.checkpoint, temporary / one.file)
        fsync(temporary / one.file)
        weights = {name: one.checkpoint[COMPRESSED_KEY][f"{name}.mu"]["shape"] for name in one.kept}
        sparsity = {name: 1.0 - sum(one.kept[name]) / math.prod(weights[name]) for name in one.kept}
        total = 1.0 - sum(map(sum, one.kept.values())) / sum(map(math.prod, weights.values()))
        sides = _side(temporary / one.file, one.checkpoint, one.result)
        report["pruned"].append(
            {"threshold": one.threshold, "file": one.file, **sides, "sparsity": total, "sparsity_per_layer": sparsity}
        )
    write_json(temporary / PRUNE_FILE, report)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.replace(folder)
    fsync(folder.parent)
    return report


def _side(path: Path, checkpoint: dict[str, Any], result: EvaluationResult) -> dict[str, Any]:
    return {
        "file_bytes": path.stat().st_size,
        "weight_bytes": weight_bytes(checkpoint, "policy."),
        "return_mean": float(result.task_returns.mean()),
        "return_per_task": result.task_returns.tolist(),
        **({} if result.task_success is None else {"success_per_task": result.task_success.tolist()}),
        "episodes_per_task": result.returns.shape[1],
    }


def _tables(cli: DescribeCLI, before: EvaluationResult, found: list[Pruned], report: dict[str, Any]) -> str:
    """Share of zeros by layer, sizes, and returns by task; a column for each threshold."""
    pruned, columns = report["pruned"], [f"T = {_text(one.threshold)}" for one in found]
    zeros = [("network", "zeros in μ̃", *columns)]
    for name in found[0].kept:
        _, network, *_, layer = name.split(".")
        zeros.append((network, layer, *(f"{one['sparsity_per_layer'][name]:.1%}" for one in pruned)))
    zeros.append(("all", "", *(f"{one['sparsity']:.1%}" for one in pruned)))
    sides = [report["before"], *pruned]
    sizes = [("bytes", "", "before", *columns)]
    sizes.append(("weights", "", *(f"{side['weight_bytes']:,}" for side in sides)))
    sizes.append(("file", "", *(f"{side['file_bytes']:,}" for side in sides)))
    returns = [("task", "mean return", "before", *columns)]
    results = [before.task_returns, *(one.result.task_returns for one in found)]
    for index, task in enumerate(cli.datamodule.suite.tasks):
        returns.append((str(index), task.name, *(f"{values[index]:.1f}" for values in results)))
    returns.append(("mean", "", *(f"{values.mean():.1f}" for values in results)))
    lines = [*text_table(zeros), "", *text_table(sizes), "", *text_table(returns)]
    note = f"{report['evaluation']}; {report['before']['episodes_per_task']} episodes a task"
    return "\n".join([*lines, note])
