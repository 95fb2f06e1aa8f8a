"""What a GPU does with this package, in one page: whether its runs are right, and how fast they are.

python -m benchmarks gpu                                  on the GPU; nothing is begun after eight minutes
python -m benchmarks gpu --accelerator cpu --scale 0.01   the same on the CPU, to see that the script works
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks import machine
from benchmarks.cases import SPEED, UPDATE, Setting
from benchmarks.flops import gemm_rate
from benchmarks.loops import build, gemm_share, quiet, train

MINUTES = 8.0
ACTIONS = {  # distributions, each by options that have it
    "categorical": ["--config", "complex_cartpole"],
    "Gaussian": ["--config", "point_mass_dial"],
    "Gaussian, std from the network": ["--config", "point_mass_dial", "--model.log_std", "network"],
    "Gaussian, squashed": ["--config", "point_mass_dial", "--model.action_bounds", "tanh"],
}
METHODS = ("varshare", "shared", "multi_head", "paco", "moore", "soft_modularization")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WIDTHS = (64, 256, 1024)
ENVS, STEPS, TIMED = 4100, 32, 4  # a multiple of the five tasks
TESTS = ["-m", "gpu", "-p", "no:cacheprovider", "tests/devices/test_gpu.py", "tests/resume/test_exact_resume.py"]


@dataclass(frozen=True)
class Row:
    """A line of the page: what was tried, how, and what came of it."""

    part: str
    what: str
    result: str
    good: bool = True


def page(accelerator: str = "gpu", scale: float = 1.0, minutes: float = MINUTES) -> tuple[str, bool]:
    """The page as Markdown, and whether nothing failed; what there is no time for says so.

    Args:
        accelerator: Of the runs, as Lightning names it.
        scale: How much work a run does, 1 for real figures.
        minutes: After which no further row is begun.
    """
    quiet()
    end = time.monotonic() + 60 * minutes
    rows: list[Row] = []
    for row in _rows(accelerator, scale):
        rows.append(row)
        print(f"{row.part}: {row.what}: {row.result}", file=sys.stderr, flush=True)
        if time.monotonic() > end:
            rows.append(Row("time", "all that would follow", f"not run: {minutes:g} minutes are over", good=False))
            break
    table = [f"| {row.part} | {row.what} | {row.result} |" for row in rows]
    head = [_facts(accelerator), "", "| part | what | result |", "|---|---|---|"]
    return "\n".join([*head, *table]), all(row.good for row in rows)


def _facts(accelerator: str) -> str:
    facts = machine.facts()
    card = torch.cuda.get_device_name() if accelerator == "gpu" else facts["machine"]["cpu"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{card}, CUDA {torch.version.cuda}; {versions}. Commit {facts['commit']}, {facts['date'][:10]}."


def _rows(accelerator: str, scale: float) -> Iterator[Row]:
    yield _tests(accelerator)
    yield from _speeds(accelerator, scale)
    for name, options in ACTIONS.items():
        for precision in PRECISIONS:
            yield _fit(f"{name}, {precision}", accelerator, [*options, "--trainer.precision", precision])
    for method in METHODS:
        options = ["--config", "complex_cartpole", "--config", f"methods/{method}"]
        for precision in PRECISIONS:
            yield _fit(f"{method}, {precision}", accelerator, [*options, "--trainer.precision", precision])
    yield _fit("varshare, compiled", accelerator, ["--config", "complex_cartpole", "--model.compile", "true"])


def _tests(accelerator: str) -> Row:
    """The tests that need a GPU, in a process of their own: exact resume, updates beside the CPU's."""
    command = [sys.executable, "-m", "pytest", *TESTS]
    env = os.environ | {"VARSHARE_TEST_ACCELERATOR": accelerator}
    done = subprocess.run(command, cwd=machine.ROOT, env=env, capture_output=True, text=True, check=False)
    return Row("tests", "pytest -m gpu", done.stdout.strip().rpartition("\n")[2], done.returncode == 0)


def _fit(what: str, accelerator: str, options: list[str]) -> Row:
    """One rollout and its update by the command line."""
    from varshare_pl.cli.main import main

    small = ["--data.total_env_steps", "1", "--evaluation.episodes", "1", "--plots.enabled", "false"]
    start, told = time.perf_counter(), io.StringIO()
    with tempfile.TemporaryDirectory() as logs, contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main(["fit", *options, *small, "--trainer.accelerator", accelerator, "--logs_dir", logs])
    seconds = time.perf_counter() - start
    result = f"{seconds:.1f} s" if code == 0 else told.getvalue().strip().rpartition("\n")[2]
    return Row("one rollout and its update", what, result, code == 0)


def _speeds(accelerator: str, scale: float) -> Iterator[Row]:
    """Envs on the CPU, networks on the accelerator: five CartPoles, many envs."""
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    envs = max(int(ENVS * scale) // 5, 1) * 5
    for width in WIDTHS:
        for precision in ("32-true", "bf16-mixed"):
            dtype = torch.float32 if precision == "32-true" else torch.bfloat16
            size = max(int(8192 * scale), 64)
            peak = gemm_rate(size, size, device=device, dtype=dtype)
            for method in ("shared", "varshare"):
                setting = Setting("ComplexCartPole", envs, STEPS, envs * STEPS // 4, width, TIMED, 1)
                data, module = build(setting, TIMED, method)
                figures = train(data, module, setting.warmup, accelerator=accelerator, precision=precision)
                share = gemm_share(module, setting, figures, peak)
                told = f"{figures[SPEED]:,.0f} env steps/s, update {figures[UPDATE]:.3f} s, {share:.1%} of the peak"
                yield Row("speed", f"{method}, width {width}, {envs:,} envs, {precision}", told)
