"""Short runs that are trained by one process inside a test, and by two when this file is run as a script.

    python scenarios.py FOLDER NAME NAME …

Each process writes what it saw of run NAME to FOLDER/NAME_RANK.pt.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

sys.path.append(str(Path(__file__).parents[1]))

from helpers import METHODS, fit

from varshare_pl import parallel
from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.signals import Signals
from varshare_pl.combiners import combiner_names
from varshare_pl.errors import ConfigError, EnvError, RunError
from varshare_pl.parallel import SharedMemory, rank
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.collector import Collector

TWO = {"devices": 2, "strategy": "ddp"}
ROWS = 10 * 48
FULL_BATCH = {"minibatch_size": ROWS, "update_epochs": 1}
# 10 envs over the five tasks; the pole falls within 48 steps in most of them.
COMPLEX = {"suite": "ComplexCartPole", "num_envs": 10, "rollout_steps": 48, "total_env_steps": ROWS}
# 4 envs that take the next of six tasks at each reset: a process holds two tasks at first, and never all six.
RAGGED = {"suite": "MultiTaskCartPole", "num_envs": 4, "rollout_steps": 24, "task_assignment": "cycle"}
COMBINED = ("mgda", "pcgrad", "grad_norm", "famo", "uncertainty")
ROLLOUT_FIELDS = ("obs", "task", "actions", "dist_params", "rewards", "terminated", "truncated", "final_obs")


class Witness(pl.Callback):
    """Keeps the rollouts, and the weights after each update."""

    def __init__(self) -> None:
        self.rollouts: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.indices: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rollouts.append({name: getattr(batch, name) for name in ROLLOUT_FIELDS})
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        self.indices.append(batch.index)


class KeepSecond(pl.Callback):
    """Keeps the checkpoint of after the second rollout, whichever others come later."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch.index == 2 and trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "checkpoints"
            shutil.copy(folder / "last.ckpt", folder / "second.ckpt")


class PoisonedModule(PPOModule):
    """Rank 1, or the only process, learns from a reward that is not a number in the second rollout."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 1 and rank() == self.trainer.world_size - 1:
            batch.rewards[0, 0] = torch.nan
        return super().training_step(batch, batch_idx)


class FailingCollector(Collector):
    """An env of the last process raises in the second rollout."""

    def collect(self, policy: Any, steps: int, index: int) -> Any:
        if index == 1 and self._here.stop == self._total_envs:
            raise EnvError("env 3 raised")
        return super().collect(policy, steps, index)


class SelfSignal(pl.Callback):
    """The last process gets a SIGTERM while it trains on the second rollout."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1 and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def train(processes: int, *callbacks: pl.Callback, **options: Any) -> dict[str, Any]:
    """Train, and tell what this process saw."""
    witness = Witness()
    trainer = {**(TWO if processes == 2 else {}), **options.pop("trainer", {})}
    result: dict[str, Any] = {"error": "", "exchanges": -exchanges()}
    try:
        run = fit(callbacks=[*callbacks, witness], trainer=trainer, **options)
        result["records"] = [(record.metrics, [vars_of(d) for d in record.details]) for record in run.records]
        result["gradient_steps"] = run.module.gradient_steps
    except (ConfigError, RunError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    result["exchanges"] += exchanges()
    return result | {name: getattr(witness, name) for name in ("rollouts", "weights", "indices")}


def exchanges() -> int:
    """How often something was added up on the board so far."""
    return sum(board._count for board in parallel._memories.values() if board is not None)


def files_in(folder: Path) -> dict[str, Any]:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return {"default_root_dir": folder, "enable_checkpointing": True}


def vars_of(detail: Any) -> tuple[Any, ...]:
    return tuple(getattr(detail, field.name) for field in fields(detail))


def first_update(method: str) -> Callable[[int, Path], dict[str, Any]]:
    def scenario(processes: int, folder: Path) -> dict[str, Any]:
        # Without the critic's local noise, which each process draws for its own rows.
        return train(processes, sharing=METHODS[method](), data=COMPLEX, critic_noise="mean", **FULL_BATCH)

    return scenario


def continuous(log_std: str) -> Callable[[int, Path], dict[str, Any]]:
    def scenario(processes: int, folder: Path) -> dict[str, Any]:
        data = COMPLEX | {"suite": "PendulumFamily", "num_envs": 12, "rollout_steps": 208}
        rows = data["num_envs"] * data["rollout_steps"]
        options = {"log_std": log_std, "action_bounds": "tanh", "minibatch_size": rows, "update_epochs": 1}
        return train(processes, data=data | {"total_env_steps": rows}, critic_noise="mean", **options)

    return scenario


def combined(name: str) -> Callable[[int, Path], dict[str, Any]]:
    def scenario(processes: int, folder: Path) -> dict[str, Any]:
        options = {"combiner": combiner_names()[name](), "cosine_every": 1, "critic_noise": "mean"}
        return train(processes, data=COMPLEX, minibatch_size=ROWS, update_epochs=2, **options)

    return scenario


def ragged_combined(processes: int, folder: Path) -> dict[str, Any]:
    options = {"combiner": combiner_names()["pcgrad"](), "cosine_every": 1, "sharing": METHODS["shared_onehot"]()}
    data = RAGGED | {"total_env_steps": 2 * 96}
    return train(processes, data=data, minibatch_size=96, update_epochs=1, **options)


def weight_noise(processes: int, folder: Path) -> dict[str, Any]:
    return train(processes, data=COMPLEX, critic_noise="weights", **FULL_BATCH)


def stored(processes: int, folder: Path) -> dict[str, Any]:
    return train(processes, data=COMPLEX, actor_noise="stored", critic_noise="mean", **FULL_BATCH)


AVERAGED = {
    "small": lambda k: torch.arange(7.0) * (1 + 4 * k),
    "64 bits": lambda k: torch.tensor([[0.1, 1e300], [k, -1.0]], dtype=torch.float64),
    "large": lambda k: torch.linspace(-k, 1.0, 3 * SharedMemory.CHUNK // 4 + 5),
    "one number": lambda k: torch.tensor(2.0 * k),
}


def averages(processes: int, folder: Path) -> dict[str, Any]:
    """Means in place, over both ways; whether the tensor is the one that was there."""

    def mean(value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        place = value.data_ptr()
        parallel.average_(value)
        return value, value.data_ptr() == place

    result = {name: mean(make(rank())) for name, make in AVERAGED.items()}
    with over_gloo():
        return result | {f"{name} over gloo": mean(make(rank())) for name, make in AVERAGED.items()}


def long(processes: int, folder: Path) -> dict[str, Any]:
    data = {"num_envs": 4, "rollout_steps": 32, "total_env_steps": 5 * 128}
    return train(processes, data=data, update_epochs=4)  # 8 updates a rollout


def without_board(processes: int, folder: Path) -> dict[str, Any]:
    with over_gloo():
        return long(processes, folder)


@contextmanager
def over_gloo() -> Iterator[None]:
    """Without a board."""
    whole, parallel._new_file = parallel._new_file, lambda size: None
    parallel._memories.clear()
    try:
        yield
    finally:
        parallel._new_file = whole
        parallel._memories.clear()


def ragged(processes: int, folder: Path, **more: Any) -> dict[str, Any]:
    data = RAGGED | {"total_env_steps": 2 * 96} | more
    return train(processes, sharing=METHODS["independent"](), data=data, minibatch_size=96, update_epochs=1)


def ragged_workers(processes: int, folder: Path) -> dict[str, Any]:
    """The same, with the envs of each process in two others."""
    return ragged(processes, folder, backend="workers", num_workers=2)


def ragged_varshare(processes: int, folder: Path) -> dict[str, Any]:
    sizes = {"data": RAGGED | {"total_env_steps": 3 * 96}, "minibatch_size": 24, "update_epochs": 2}
    return train(processes, **sizes, actor_noise="stored")


NORMALISED = {
    scope: {"normalize_observations": scope, "normalize_returns": scope, "popart": True, "normalize_rewards": scope}
    for scope in ("task", "shared")
}


def normalised(processes: int, folder: Path, scope: str = "task") -> dict[str, Any]:
    """One step on all rows of a rollout, for which it does not matter how they are split."""
    data = RAGGED | {"total_env_steps": 3 * 96}
    options = {"sharing": METHODS["independent"](), "minibatch_size": 96, "update_epochs": 1, **NORMALISED[scope]}
    files = files_in(folder / f"normalised_{scope}_{processes}")
    return train(processes, Checkpoint(2), data=data, trainer=files, **options)


def normalised_resumed(processes: int, folder: Path, scope: str = "task") -> dict[str, Any]:
    data = RAGGED | {"total_env_steps": 3 * 96}
    options = {"sharing": METHODS["independent"](), "minibatch_size": 96, "update_epochs": 1, **NORMALISED[scope]}
    checkpoint = folder / f"normalised_{scope}_{processes}" / "checkpoints" / "previous.ckpt"
    return train(processes, data=data, ckpt_path=checkpoint, **options)


def target_kl(processes: int, folder: Path) -> dict[str, Any]:
    options = {"minibatch_size": ROWS, "update_epochs": 20, "target_kl": 2e-3, "sharing": METHODS["shared"]()}
    return train(processes, data=COMPLEX, **options)


def poisoned(processes: int, folder: Path) -> dict[str, Any]:
    return train(processes, module_class=PoisonedModule)


def env_fault(processes: int, folder: Path) -> dict[str, Any]:
    from varshare_pl.rollout import datamodule

    whole, datamodule.Collector = datamodule.Collector, FailingCollector  # type: ignore[attr-defined,misc]
    try:
        return train(processes)
    finally:
        datamodule.Collector = whole  # type: ignore[attr-defined,misc]


def uneven(processes: int, folder: Path) -> dict[str, Any]:
    return train(processes, data={"num_envs": 6}, minibatch_size=64)


def signalled(processes: int, folder: Path) -> dict[str, Any]:
    signals = Signals()
    callbacks = (SelfSignal(), signals, Checkpoint(0), Evaluation(0, 2))
    data = {"total_env_steps": 9 * 128}
    result = train(processes, *callbacks, data=data, trainer=files_in(folder / f"signalled_{processes}"))
    return result | {"agreed": signals.agreed}


def recorded(processes: int, folder: Path) -> dict[str, Any]:
    """With files and evaluations; checkpoints after the second and the fourth rollout at least."""
    files = (Evaluation(128, 2), Heartbeat(), Checkpoint(2), KeepSecond())
    return train(processes, *files, data=RESUMED, trainer=files_in(folder / f"recorded_{processes}"))


RESUMED = {"num_envs": 4, "rollout_steps": 32, "total_env_steps": 4 * 128}


def resumed(before: int) -> Callable[[int, Path], dict[str, Any]]:
    def scenario(processes: int, folder: Path) -> dict[str, Any]:
        checkpoint = folder / f"recorded_{before}" / "checkpoints" / "second.ckpt"
        return train(processes, data=RESUMED, ckpt_path=checkpoint)

    return scenario


SCENARIOS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    **{f"first_update_{method}": first_update(method) for method in METHODS},
    **{f"continuous_{log_std}": continuous(log_std) for log_std in ("task", "shared", "network")},
    **{f"combined_{name}": combined(name) for name in COMBINED},
    "ragged_combined": ragged_combined,
    "weight_noise": weight_noise,
    "stored": stored,
    "averages": averages,
    "long": long,
    "without_board": without_board,
    "ragged": ragged,
    "ragged_workers": ragged_workers,
    "ragged_varshare": ragged_varshare,
    "normalised_task": normalised,
    "normalised_shared": partial(normalised, scope="shared"),
    "normalised_task_resumed": normalised_resumed,
    "normalised_shared_resumed": partial(normalised_resumed, scope="shared"),
    "target_kl": target_kl,
    "poisoned": poisoned,
    "env_fault": env_fault,
    "uneven": uneven,
    "signalled": signalled,
    "recorded": recorded,
    "resumed_from_2": resumed(2),
    "resumed_from_1": resumed(1),
}


def main() -> None:
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        result = SCENARIOS[name](2, folder)
        torch.save(result, folder / f"{name}_{os.environ['LOCAL_RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
