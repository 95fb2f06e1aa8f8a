"""``make bench``: every case in a process of its own, in turn, several rounds; medians and ratios.

One thread per process. Ratios are taken within a round, so that a machine whose speed drifts does not bend them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# (name, numerator, denominator, bar): what we promise of speed.
RATIOS = [
    ("VarShare, 5 tasks, default config / Stable-Baselines3", "varshare", "sb3", 0.95),
    ("shared net, CartPole, same setting / Stable-Baselines3", "shared_wide", "sb3", None),
    ("VarShare / shared net, default config", "varshare", "shared", None),
    ("bare loop / Lightning fit loop, VarShare (at most)", "varshare_bare", "varshare", 1.08),
    ("batched env / Gymnasium SyncVectorEnv, 64 envs", "env_batched", "env_gymnasium_sync", 10.0),
    ("batched env / Gymnasium CartPoleVectorEnv, 64 envs", "env_batched", "env_gymnasium_vector", None),
]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all cases (default 5)")
    parser.add_argument("--case", help="run one case in this process and print its steps per second")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    if options.case:
        _silent()
        from benchmarks.cases import CASES

        print(CASES[options.case]())
        return
    cases = list(dict.fromkeys(name for ratio in RATIOS for name in ratio[1:3]))
    figures: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(options.rounds):
        for name in cases:
            figures[name].append(_measure(name))
            print(f"round {number + 1}  {name:22s} {figures[name][-1]:12,.0f} steps/s", file=sys.stderr, flush=True)
    print(_report(figures))
    if options.json:
        content = {"machine": _machine(), "steps_per_second": figures}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _measure(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks", "--case", name]
    env = os.environ | dict.fromkeys(THREADS, "1")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"case {name} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _silent() -> None:
    import logging
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def _report(figures: dict[str, list[float]]) -> str:
    lines = [_machine(), "", "| case | steps/s, median | min | max |", "|---|---:|---:|---:|"]
    for name, values in figures.items():
        lines.append(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} |")
    lines += ["", "| ratio | median | min | max | bar |", "|---|---:|---:|---:|---:|"]
    for title, top, bottom, bar in RATIOS:
        ratios = [a / b for a, b in zip(figures[top], figures[bottom], strict=True)]
        shown = "" if bar is None else f"{bar:g}"
        lines.append(f"| {title} | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | {shown} |")
    return "\n".join(lines)


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "stable-baselines3"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one thread per process"
    return f"{machine}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main()
