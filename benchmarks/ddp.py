"""``python -m benchmarks.ddp``: two processes against one on two cores, one thread each; medians of rounds in turn.

Steps per second of the training loop from the second rollout on, at equal work: the number of envs is the run's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.__main__ import THREADS, _machine, _silent


@dataclass(frozen=True)
class Case:
    """A setting of VarShare on ComplexCartPole."""

    title: str
    num_envs: int
    rollout_steps: int
    minibatch_size: int
    width: int
    rollouts: int
    bar: float  # how many times as fast two processes are to be


CASES = {
    "default": Case("default config: 40 envs, width 64", 40, 128, 1280, 64, 50, 1.2),
    "wide": Case("512 envs, width 256", 512, 32, 4096, 256, 5, 1.6),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ddp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all cases (default 3)")
    parser.add_argument("--only", choices=list(CASES), help="measure only this case")
    parser.add_argument("--case", choices=list(CASES), help="run one case here and print its steps per second")
    parser.add_argument("--processes", type=int, default=1, help="with --case: processes (default 1)")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    if options.case:
        _silent()
        _fit(CASES[options.case], options.processes)
        return
    names = [options.only] if options.only else list(CASES)
    figures: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in names}
    for number in range(options.rounds):
        for name in names:
            for processes in (1, 2):
                speed = _measure(name, processes)
                figures[name][processes].append(speed)
                line = f"round {number + 1}  {name:8s} {processes} process(es) {speed:12,.0f} steps/s"
                print(line, file=sys.stderr, flush=True)
    print(_report(figures))
    if options.json:
        content = {"machine": _machine(), "steps_per_second": figures}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, processes: int) -> float:
    command = [sys.executable, "-m", "benchmarks.ddp", "--case", name, "--processes", str(processes)]
    env = os.environ | dict.fromkeys(THREADS, "1")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(f"case {name} with {processes} process(es) failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _fit(case: Case, processes: int) -> None:
    """Train, in this process or in as many as told; the first prints the speed."""
    import torch
    from lightning.pytorch import Callback, Trainer

    from varshare_pl.ppo.module import PPOModule
    from varshare_pl.rollout.datamodule import RolloutDataModule
    from varshare_pl.sharing import VarShare

    class Clock(Callback):
        start = 0.0

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
            if index == 0:
                self.start = time.perf_counter()
            elif index == case.rollouts - 1 and trainer.is_global_zero:
                print((case.rollouts - 1) * rows / (time.perf_counter() - self.start), flush=True)

    rows = case.num_envs * case.rollout_steps
    data = RolloutDataModule("ComplexCartPole", case.num_envs, case.rollout_steps, case.rollouts * rows)
    sizes: dict[str, Any] = {"hidden_sizes": (case.width, case.width), "minibatch_size": case.minibatch_size}
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )
    trainer.fit(PPOModule(data.spec, VarShare(), **sizes), datamodule=data)
    if processes > 1:
        torch.distributed.destroy_process_group()


def _report(figures: dict[str, dict[int, list[float]]]) -> str:
    lines = [_machine(), "", "| case | 1 process, steps/s | 2 processes, steps/s | ratio | min | max | bar |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, of in figures.items():
        ratios = [two / one for one, two in zip(of[1], of[2], strict=True)]
        one, two = (statistics.median(of[processes]) for processes in (1, 2))
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        row = f"| {CASES[name].title} | {one:,.0f} | {two:,.0f} | {middle:.2f} | {low:.2f} | {high:.2f} "
        lines.append(f"{row}| ≥ {CASES[name].bar:g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
