"""Whole runs by the command line: the demo's seconds and memory, and what callbacks cost in it.

Nothing heavy is imported at the top: on Linux a process starts with the peak memory of the one that started it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from benchmarks.cases import Figures, NotAvailableError
from benchmarks.harness import THREADS

CONFIG = "complex_cartpole"
DEMO_STEPS = 300_000  # of the config


def demo(scale: float) -> Figures:
    """The demo's training command, from its start to its end."""
    length = [] if scale == 1 else ["--data.total_env_steps", str(_steps(DEMO_STEPS, scale))]
    return _command(length)


def memory(scale: float, env_steps: int) -> Figures:
    """A run without evaluations on the way and without plots, whose memory would hide that of the training."""
    options = ["--evaluation.every", "0", "--evaluation.episodes", "1", "--plots.enabled", "false"]
    return _command(["--data.total_env_steps", str(_steps(env_steps, scale)), *options])


def callbacks(scale: float, logger: str | None = None) -> Figures:
    """A default run in this process with a stopwatch around every hook of our callbacks.

    ``share`` is that of heartbeat and loggers in the training loop, evaluations and plots left out.
    """
    from varshare_pl.cli.main import main

    args = ["fit", "--config", CONFIG, "--data.total_env_steps", str(_steps(DEMO_STEPS, scale))]
    args += [] if logger is None else ["--logger", logger]
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(sys.stderr),  # stdout is for figures
        _stopwatch() as spent,
    ):
        code = main([*args, "--logs_dir", folder])
    if code:
        raise RuntimeError(f"varshare fit ended with exit code {code}")
    whole = spent.pop("loop")
    figures = {f"{name}_s": seconds for name, seconds in spent.items()}
    figures["loop_s"] = whole - spent["evaluation_in_loop"] - spent["plots_in_loop"]
    figures["share"] = (spent["heartbeat_in_loop"] + spent["loggers_in_loop"]) / figures["loop_s"]
    return figures


@contextlib.contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    """Seconds within the hooks of each callback, in the training loop and after it, and of the whole loop."""
    from varshare_pl.callbacks.checkpoint import Checkpoint
    from varshare_pl.callbacks.evaluation import Evaluation
    from varshare_pl.callbacks.heartbeat import Heartbeat
    from varshare_pl.callbacks.loggers import MetricsToLoggers
    from varshare_pl.callbacks.plots import Plots
    from varshare_pl.ppo.module import PPOModule

    watched: dict[str, type] = {
        "heartbeat": Heartbeat,
        "loggers": MetricsToLoggers,
        "checkpoint": Checkpoint,
        "evaluation": Evaluation,
        "plots": Plots,
    }
    hooks = {"on_train_batch_start": "in_loop", "on_train_batch_end": "in_loop", "on_train_end": "at_end"}
    spent: dict[str, float] = defaultdict(float)
    first = 0.0

    def timed(key: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(hook)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = hook(*args, **kwargs)
            end = time.perf_counter()
            spent[key] += end - start
            if key.endswith("in_loop"):
                spent["loop"] = end - first  # up to the last hook in it
            return result

        return wrapper

    def started(module: Any) -> None:
        nonlocal first
        on_train_start(module)
        first = time.perf_counter()

    on_train_start = PPOModule.on_train_start
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(PPOModule, "on_train_start", started))
        for name, owner in watched.items():
            for hook, when in hooks.items():
                if hook in vars(owner):
                    wrapper = timed(f"{name}_{when}", vars(owner)[hook])
                    stack.enter_context(mock.patch.object(owner, hook, wrapper))
        yield spent


def _steps(env_steps: int, scale: float) -> int:
    return max(10_000, round(env_steps * scale))


def _command(options: list[str]) -> Figures:
    """Seconds and peak memory (MB of 10⁶ bytes) of ``varshare fit`` with these options."""
    if not hasattr(os, "wait4"):
        raise NotAvailableError("the system does not tell the memory of a process that ended")
    env = {name: value for name, value in os.environ.items() if name not in THREADS}  # as a user starts it
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "varshare_pl", "fit", "--config", CONFIG, "--logs_dir", folder, *options]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for here, not by Popen
    if process.returncode:
        raise RuntimeError(f"varshare fit ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss * unit / 1e6}
