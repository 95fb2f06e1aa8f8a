"""What is measured: the cases by name. Each runs in a process of its own and gives figures by name.

Nothing heavy is imported here: a case that measures another process's memory must be small itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.machine import ROOT

Figures = dict[str, float]
SPEED = "speed"  # env steps per second
MILLIONS = "million_steps"  # of envs, per second of processor time
CPU_SPEED = "cpu_speed"  # env steps per second of this process's processor time: other programs hardly bend it
START = "start_s"  # seconds from the call of fit to the end of the second rollout's update: what compiling costs
UPDATE = "update_s"  # median seconds of an update


class NotAvailableError(Exception):
    """A case cannot run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Sizes of a training run; frozen, so that figures of different dates can be compared.

    Attributes:
        suite: name of a built-in suite; a number stands for so many CartPoles with different physics.
        num_envs: envs side by side.
        rollout_steps: steps of each env in a rollout.
        minibatch_size: rows of a minibatch.
        width: of both hidden layers, in actor and critic.
        timed: rollouts that are timed.
        warmup: rollouts before those.
    """

    suite: str | int
    num_envs: int
    rollout_steps: int
    minibatch_size: int
    width: int = 64
    timed: int = 40
    warmup: int = 2

    @property
    def rows(self) -> int:
        return self.num_envs * self.rollout_steps


EPOCHS = 4
TASK_COUNTS = (5, 10, 25, 50)
TASK_METHODS = ("varshare", "shared", "independent", "paco", "moore")  # whose cost is measured against tasks
# The methods of the package, each of which has a config.
METHODS = tuple(sorted(path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")))
PHYSICS = {"point_mass": "PointMassDial", "mountain_car": "MountainCarLadder", "pendulum": "PendulumFamily"}
SETTINGS = {
    "a": Setting("CartPole", 8, 256, 64),
    "b": Setting("CartPole", 32, 128, 1024),
    "default": Setting("ComplexCartPole", 40, 128, 1280),  # configs/complex_cartpole.yaml
    "methods": Setting("ComplexCartPole", 40, 128, 1280, timed=20),
    **{f"tasks_{count}": Setting(count, 100, 128, 3200, timed=8) for count in TASK_COUNTS},
    "width_64": Setting("CartPole", 32, 128, 1024, 64, timed=20),
    "width_128": Setting("CartPole", 32, 128, 1024, 128, timed=15),
    "width_256": Setting("CartPole", 32, 128, 1024, 256, timed=10),
    "processes": Setting("ComplexCartPole", 40, 128, 1280, timed=49, warmup=1),
    "processes_wide": Setting("ComplexCartPole", 512, 128, 16384, 256, timed=2, warmup=1),
}


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        function: "module:function" of this package; called with the scale of the work and the options.
        options: its keyword arguments.
        cores: that it uses; one core is pinned.
    """

    function: str
    options: dict[str, Any] = field(default_factory=dict)
    cores: int = 1

    def run(self, scale: float) -> Figures:
        """Run it in this process.

        Args:
            scale: how much work, 1 for real figures; little to see that the case runs.

        Raises:
            NotAvailableError: if it cannot run here.
        """
        module, _, name = self.function.partition(":")
        function: Callable[..., Figures] = getattr(import_module(f"benchmarks.{module}"), name)
        return function(scale, **self.options)


def _fit(setting: str, method: str, compiled: bool = False, **options: Any) -> Case:
    return Case("loops:fit", {"setting": setting, "method": method, "compiled": compiled, **options})


CASES: dict[str, Case] = {
    "sb3_a": Case("loops:stable_baselines3", {"setting": "a"}),
    "shared_a": _fit("a", "shared"),
    "shared_a_compiled": _fit("a", "shared", compiled=True),
    "sb3_b": Case("loops:stable_baselines3", {"setting": "b"}),
    "shared_b": _fit("b", "shared"),
    "shared_b_compiled": _fit("b", "shared", compiled=True),
    "varshare": _fit("default", "varshare"),
    "varshare_bare": Case("loops:bare_loop", {"setting": "default", "method": "varshare"}),
    "shared": _fit("default", "shared"),
    "varshare_compiled": _fit("default", "varshare", compiled=True),
    "shared_compiled": _fit("default", "shared", compiled=True),
    "env_batched": Case("envs:batched"),
    "env_gymnasium_vector": Case("envs:gymnasium_vector"),
    "env_gymnasium_sync": Case("envs:gymnasium_sync"),
    **{f"physics_{name}": Case("envs:physics", {"suite": suite}) for name, suite in PHYSICS.items()},
    "workers_idle": Case("workers:measure", {"env": "benchmarks.workers:Idle-v0"}, cores=2),
    "workers_busy": Case("workers:measure", {"env": "benchmarks.workers:Busy-v0"}, cores=2),
    "workers_cheetah": Case("workers:measure", {"env": "HalfCheetah-v5"}, cores=2),
    **{f"method_{method}": _fit("methods", method) for method in METHODS},
    **{f"tasks_{count}_{method}": _fit(f"tasks_{count}", method) for count in TASK_COUNTS for method in TASK_METHODS},
    **{
        f"gemm_{width}{'_compiled' * compiled}": _fit(f"width_{width}", "shared", compiled, gemm=True)
        for compiled in (False, True)
        for width in (64, 128, 256)
    },
    **{
        f"{setting}_{way}": Case("processes:train", {"setting": setting, "processes": count}, cores=2)
        for setting in ("processes", "processes_wide")
        for way, count in (("one", 1), ("two", 2))
    },
    **{
        f"{setting}_side_by_side": Case("processes:side_by_side", {"case": f"{setting}_one"}, cores=2)
        for setting in ("processes", "processes_wide")
    },
    "callbacks": Case("runs:callbacks"),
    "callbacks_csv": Case("runs:callbacks", {"logger": "csv"}),
    "study": Case("studies:scheduling", cores=2),
    "demo": Case("runs:demo"),
    "memory_short": Case("runs:memory", {"env_steps": 50_000}),
    "memory_long": Case("runs:memory", {"env_steps": 500_000}),
}


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
