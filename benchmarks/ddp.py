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
from concurrent.futures import ThreadPoolExecutor
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
    "wide": Case("512 envs, width 256", 512, 128, 16384, 256, 3, 1.6),
}


WAYS = ("one", "two", "side by side")


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
    figures: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in names}
    for number in range(options.rounds):
        for name in names:
            speeds = {"one": _measure(name, 1), "two": _measure(name, 2), "side by side": _side_by_side(name)}
            for way, speed in speeds.items():
                figures[name][way].append(speed)
                print(f"round {number + 1}  {name:8s} {way:12s} {speed:12,.0f} steps/s", file=sys.stderr, flush=True)
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


def _side_by_side(name: str) -> float:
    """Two runs of one process at once, added up: what the cores have to give."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(_measure, [name] * 2, [1] * 2))


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


def _report(figures: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        _machine(),
        "",
        "Steps/s are medians; ratios are taken within a round, their median is shown with min and max.",
    ]
    lines.append("Side by side: two runs of one process at once, added up; the ratio that the cores allow.\n")
    lines.append("| case | 1 process | 2 processes | ratio | bar | side by side, ratio |")
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name, of in figures.items():
        one, two = (statistics.median(of[way]) for way in WAYS[:2])
        ratio, most = _ratio(of["two"], of["one"]), _ratio(of["side by side"], of["one"])
        lines.append(f"| {CASES[name].title} | {one:,.0f} | {two:,.0f} | {ratio} | ≥ {CASES[name].bar:g} | {most} |")
    return "\n".join(lines)


def _ratio(top: list[float], bottom: list[float]) -> str:
    ratios = [a / b for a, b in zip(top, bottom, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
