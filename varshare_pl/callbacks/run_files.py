"""What a run says of itself: its config and identity at the start, its summary at the end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer

from varshare_pl.callbacks.signals import stopped_by_signal
from varshare_pl.checkpoints import CONFIG_KEY
from varshare_pl.errors import ConfigError
from varshare_pl.files import replacing, write_json
from varshare_pl.networks.size import network_sizes, total_size
from varshare_pl.parallel import raised_by_all
from varshare_pl.results.info import RUN_FILE, read_json, read_run_info
from varshare_pl.results.statistics import average
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE, check_free, lock, make_empty
from varshare_pl.trained.evaluation import EvaluationResult
from varshare_pl.trained.evaluator import Evaluator

PACKAGES = ("varshare-pl", "torch", "lightning", "gymnasium", "numpy")


class RunFiles(Callback):
    """Make the run's folder, write ``config.yaml`` and ``run.json`` at the start, ``summary.json`` at the end.

    The folder is locked from start to end.

    Args:
        save_config: Writes the run's config to a path.
        evaluator: Its results are summarised.
        experiment: Name of the experiment.
        overwrite: Replace a run that is in the folder.
        resume: Go on with the run that is in the folder.
    """

    def __init__(
        self,
        save_config: Callable[[Path], None],
        evaluator: Evaluator,
        experiment: str,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self._save_config = save_config
        self._evaluator = evaluator
        self._experiment = experiment
        self._overwrite = overwrite
        self._resume = resume
        self._lengths: list[int] = []  # env steps that were asked for, a new one each time the run is extended
        self._lock: FileLock | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with raised_by_all():
            if trainer.is_global_zero:
                self._begin(trainer, pl_module)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.default_root_dir)
        self._lock = lock(folder)
        length = trainer.datamodule.total_env_steps  # type: ignore[attr-defined]
        if self._resume:
            self._lengths = read_lengths(folder / RUN_FILE)
            (folder / SUMMARY_FILE).unlink(missing_ok=True)
        else:
            check_free(folder, self._overwrite)
            make_empty(folder)
        if length not in self._lengths[-1:]:
            self._lengths.append(length)
        with replacing(folder / CONFIG_FILE) as temporary:
            self._save_config(temporary)
        write_json(folder / RUN_FILE, self._identity(trainer, pl_module))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            checkpoint[CONFIG_KEY] = (Path(trainer.default_root_dir) / CONFIG_FILE).read_text(encoding="utf-8")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning calls no teardown after a fault

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._lock is not None:
            self._lock.release()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or stopped_by_signal(trainer):
            return  # a run that was interrupted has no summary yet
        folder = Path(trainer.default_root_dir)
        write_json(folder / SUMMARY_FILE, self._summary(trainer, pl_module))
        if self._evaluator.final is not None:
            suite: Any = trainer.datamodule.suite  # type: ignore[attr-defined]
            result = self._evaluator.final[1]
            names = [task.name for task in suite.tasks]
            print(result.table(names))
        print(f"results: {folder}")

    def _identity(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        suite: Any = trainer.datamodule.suite  # type: ignore[attr-defined]
        module: Any = pl_module
        return {
            "experiment": self._experiment,
            "seed": module.seed,
            "suite": suite.name,
            "suite_version": suite.version,
            "suite_protocol": suite.protocol,
            "method": module.method_name,
            "hidden_sizes": list(module.policy.hidden_sizes),  # those of the networks, matched or not
            "task_names": [task.name for task in suite.tasks],
            "solved_return": suite.solved_return,
            "anchors": None if suite.anchors is None else asdict(suite.anchors),
            **({} if suite.success.info is None else {"success": asdict(suite.success)}),
            "total_env_steps": self._lengths,
            "commit": code_commit(),
            "packages": _packages(),
            "python": platform.python_version(),
            "hardware": {
                "machine": platform.machine(),
                "device": str(trainer.strategy.root_device),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
            },
        }

    def _summary(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        module: Any = pl_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        summary = self._identity(trainer, pl_module) | {
            "env_steps": module.env_steps,
            "gradient_steps": module.gradient_steps,
            "finished": module.env_steps >= data.total_env_steps,
            "extended": any(later > before for before, later in pairwise(self._lengths)),
            "seconds": round(module.wall_time, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "parameters": total_size(network_sizes(module.policy, module.spec.obs_size).values())._asdict(),
        }
        if self._evaluator.final is not None:
            env_steps, final = self._evaluator.final
            history = {**dict(self._evaluator.history), env_steps: final}
            summary["final"] = {
                "env_steps": env_steps,
                "weights": "last checkpoint",
                "evaluation": "deterministic: posterior mean, most likely action",
                "episodes_per_task": final.returns.shape[1],
                **_means(final),
                "solved": final.solved,
                "solved_per_task": final.task_solved,
                "cut_per_task": final.task_cuts,
                **({"success_missing_per_task": final.task_missing} if final.success is not None else {}),
            }
            summary["steps_to_solve"] = steps_to_solve([(steps, result.solved) for steps, result in history.items()])
        for env_steps, result in self._evaluator.history:
            if env_steps == 0:  # of a run that started with tasks new to its weights
                summary["zero_shot"] = {
                    "episodes_per_task": result.returns.shape[1],
                    **_means(result),
                    "solved_per_task": result.task_solved,
                }
        if self._evaluator.shared_only is not None:
            for name, values in self._evaluator.shared_only.means.items():
                summary[f"shared_only_{name}_per_task"] = values.tolist()
        return summary


def _means(result: EvaluationResult) -> dict[str, Any]:
    """Mean return, and success where it is measured, over all tasks and of each."""
    found: dict[str, Any] = {}
    for name, values in result.means.items():
        found |= {f"{name}_mean": float(average(values)), f"{name}_per_task": values.tolist()}
    return found


@cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@cache
def code_commit() -> str | None:
    """The commit of the checkout that the package runs from, with a + if files differ; None if it is no checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def read_lengths(path: Path) -> list[int]:
    """The lengths that a run was given so far; none if it was killed before it could write them."""
    try:
        length = read_run_info(path.parent).length  # also sees that the rest is whole
        return [] if length is None else list(read_json(path)["total_env_steps"])
    except ConfigError as error:
        raise ConfigError(f"{error}; where it is deleted, 'varshare resume' makes it anew") from None


def steps_to_solve(history: list[tuple[int, bool | None]]) -> int | None:
    """Env steps of the first evaluation from which on all are solved; None if the last one is not."""
    solved_at = None
    for env_steps, solved in history:
        if solved_at is None or not solved:
            solved_at = env_steps if solved else None
    return solved_at


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB of 10⁶ bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e6)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
