"""The LightningDataModule that owns the envs and hands out rollouts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, TensorDataset

from varshare_pl.envs import (
    GymTask,
    SuiteMapping,
    get_suite,
    make_vector_env,
    resolve_assignment,
    resolve_backend,
)
from varshare_pl.errors import ConfigError
from varshare_pl.parallel import gather_plain, raised_by_all, world_size
from varshare_pl.processes import usable_cores
from varshare_pl.rollout.collector import Collector
from varshare_pl.rollout.dataset import RolloutDataset
from varshare_pl.rollout.info_metrics import check_info_metrics
from varshare_pl.types import EnvSpec, Rollout, RolloutPlan

PER_ENV = ("envs", "returns", "lengths", "success")  # of the collector's state


class RolloutDataModule(pl.LightningDataModule):
    """Vectorized multi-task envs and the rollouts collected from them.

    Args:
        suite: Name of a suite that ships, or a mapping of its name and options; a list of Gymnasium ids or tasks (id,
            kwargs, attributes, name, wrappers, time_limit), or a mapping of such tasks and settings (name, wrappers,
            time_limit, success, anchors, pad).
        num_envs: Envs that step side by side, over all tasks.
        rollout_steps: Steps of each env in a rollout.
        total_env_steps: Length of the training in env steps over all envs, rounded up to whole rollouts.
        backend: How envs are vectorized: "batched" (NumPy) or "torch", for suites with physics of their own; "sync"
            (one after the other) or "workers" (processes with several envs each), for any env; "auto" takes batched
            where it can (torch for compiled acting, with model.compile), else workers where num_workers is given,
            else sync.
        task_assignment: "fixed": env i has task i mod M for good; "cycle": an env takes the next task at each reset;
            "auto": fixed where num_envs is a multiple of M, else cycle.
        info_metrics: Scalars in the env's info at an episode's end to log per task, e.g. [success].
        num_workers: Processes of the backend "workers" for each process of the training; null: one a core.
        worker_timeout: Seconds that an env of "workers" may take to be made, for a reset or a step; null: any time.
        seed: Hangs env streams on the run's seed; the command line sets it from seed_everything.
    """

    def __init__(
        self,
        suite: str | list[str | GymTask | dict[str, Any]] | SuiteMapping = "ComplexCartPole",
        num_envs: PositiveInt = 40,
        rollout_steps: PositiveInt = 128,
        total_env_steps: PositiveInt = 300_000,
        backend: Literal["auto", "batched", "torch", "sync", "workers"] = "auto",
        task_assignment: Literal["auto", "fixed", "cycle"] = "auto",
        info_metrics: Sequence[str] = (),
        num_workers: PositiveInt | None = None,
        worker_timeout: PositiveFloat | None = None,
        seed: NonNegativeInt = 1,
    ) -> None:
        super().__init__()
        try:
            self.suite = get_suite(suite)
        except ConfigError as error:
            raise ConfigError(f"data.{error}") from error
        self.num_envs: int = num_envs
        self.rollout_steps: int = rollout_steps
        self.num_rollouts = math.ceil(total_env_steps / (num_envs * rollout_steps))
        self.total_env_steps = self.num_rollouts * num_envs * rollout_steps
        self.backend = backend
        self.task_assignment = task_assignment
        self.info_metrics = tuple(info_metrics)
        self.num_workers = num_workers
        self.worker_timeout = worker_timeout
        self.seed = seed
        if task_assignment == "fixed" and num_envs % self.suite.num_tasks:
            raise ConfigError(
                f"data.num_envs: {num_envs} is not allowed with data.task_assignment=fixed; "
                f"a multiple of the suite's {self.suite.num_tasks} tasks is"
            )
        try:
            resolve_backend(self.suite, backend, num_workers, worker_timeout)
        except ConfigError as error:
            raise ConfigError(f"data.{error}") from error
        check_info_metrics(self.info_metrics, self.suite.num_tasks, self.suite.success.info is not None)
        self._collector: Collector | None = None
        self._resume_from: dict[str, Any] | None = None

    @property
    def spec(self) -> EnvSpec:
        """What the networks need to know of the suite."""
        return self.suite.env_spec()

    @property
    def plan(self) -> RolloutPlan:
        """The rollouts of the run."""
        return RolloutPlan(self.rollout_steps * self.num_envs, self.num_rollouts, self._fixed())

    def train_dataloader(self) -> DataLoader[Rollout]:
        assert self.trainer is not None
        if self._collector is None:
            with raised_by_all():
                self._collector = self._make_collector()
        first = self._resume(self._collector)
        module: Any = self.trainer.lightning_module
        dataset = RolloutDataset(self._collector, module.acting_policy, self.rollout_steps, first, self.num_rollouts)
        # A loader without a generator of its own would draw from torch's global one at each iter().
        return DataLoader(dataset, batch_size=None, num_workers=0, generator=torch.Generator(), collate_fn=_as_it_is)

    def setup(self, stage: str) -> None:
        if self.trainer is None:
            return
        # During a fit the Evaluation callback evaluates between rollouts, without Lightning's loop for it.
        self.trainer.limit_val_batches = int(stage == "validate")
        if stage == "fit":
            self.trainer.fit_loop.max_epochs = 1  # of total_env_steps
            self.trainer.check_val_every_n_epoch = None  # Lightning's monitors look within it: ppo/trainer_state.py
        processes = self.trainer.world_size
        unit = processes * (self.suite.num_tasks if self._fixed() else 1)
        if stage == "fit" and self.num_envs % unit:
            raise ConfigError(
                f"data.num_envs: {self.num_envs} is not allowed with {processes} processes; a multiple of {unit} is"
            )

    def val_dataloader(self) -> DataLoader[Any]:
        """One item that says nothing: Lightning validates if there is one; the Evaluation callback does the work."""
        return DataLoader(TensorDataset(torch.zeros(1)), num_workers=0, generator=torch.Generator())

    def state_dict(self) -> dict[str, Any]:
        """Envs, their random streams, episodes under way and counters, as plain data; empty before the first rollout.

        Of all processes, in the global order of envs: any number of processes can go on from it.
        """
        if self._collector is None or not self._collector.env_steps:
            return {}
        states = gather_plain(self._collector.get_state())
        lists = {key: [item for state in states for item in state[key]] for key in PER_ENV if key in states[0]}
        return {**states[0], **lists, "processes": len(states)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_from = state_dict or None  # the envs are made later, by train_dataloader

    def _resume(self, collector: Collector) -> int:
        """Bring the envs to where the checkpoint was; gives the index of the next rollout."""
        if self._resume_from is not None:
            here = self._here()
            lists = {key: self._resume_from[key][here] for key in PER_ENV if key in self._resume_from}
            collector.set_state({**self._resume_from, **lists})
            restarted = sum(env["env"] is None for env in self._resume_from["envs"])  # on all processes
            if restarted:
                rank_zero_warn(
                    f"resume is not exact: {restarted} of {self.num_envs} envs cannot tell their state (no get_state "
                    "and set_state, or a wrapper that is not known) and start a new episode"
                )
            before, now = self._resume_from.get("processes", 1), world_size()
            if before != now:
                rank_zero_warn(
                    f"resume is not exact: {before} processes wrote the checkpoint, {now} go on; each draws "
                    "minibatches and the critic's noise from streams of its own"
                )
            self._resume_from = None
        return int(collector.env_steps) // (self.rollout_steps * self.num_envs)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """What a device without float64 cannot hold, in float32."""
        assert self.trainer is not None
        if not isinstance(batch, Rollout) or self.trainer.strategy.root_device.type != "mps":
            return batch
        told = batch.episodes
        info = {name: values.float() for name, values in told.info.items()}
        success = None if told.success is None else told.success.float()
        return replace(batch, episodes=replace(told, returns=told.returns.float(), info=info, success=success))

    def _fixed(self) -> bool:
        return resolve_assignment(self.suite, self.num_envs, self.task_assignment) == "fixed"

    def _here(self) -> slice:
        """The global indices of this process's envs: as many as every other's."""
        assert self.trainer is not None
        each = self.num_envs // self.trainer.world_size
        return slice(self.trainer.global_rank * each, (self.trainer.global_rank + 1) * each)

    def _make_collector(self) -> Collector:
        assert self.trainer is not None
        here = self._here()
        module: Any = self.trainer.lightning_module
        backend = resolve_backend(self.suite, self.backend, self.num_workers, self.worker_timeout)
        if self.backend == "auto" and backend == "batched" and module.options.compile and self._fixed():
            backend = "torch"  # for acting that is compiled too
        workers = None
        if backend == "workers":
            workers = self.num_workers or max(1, usable_cores() // self.trainer.world_size)
        envs = make_vector_env(
            self.suite,
            here.stop - here.start,
            backend,
            seed=self.seed,
            task_assignment=self.task_assignment,
            env_indices=range(here.start, here.stop),
            total_envs=self.num_envs,
            num_workers=workers,
            worker_timeout=self.worker_timeout,
        )
        compiled = module.options.compile and backend == "torch"
        own, read = self.suite.observation_space.dtype, module.policy.obs_dtype
        kept = own == np.uint8 or (own == np.float64 and read == torch.float64)
        run = self.num_envs, here.start, compiled, np.dtype(own if kept else np.float32)
        return Collector(envs, self.suite.num_tasks, self.info_metrics, *run, self.suite.success)

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def teardown(self, stage: str) -> None:
        collector, self._collector = self._collector, None
        if collector is not None:
            collector.close()


def _as_it_is(rollout: Any) -> Any:
    return rollout
