"""Two processes on two cores, one thread each, at equal work: the number of envs is the run's. Not pinned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.cases import SETTINGS, SPEED, Figures
from benchmarks.harness import run_case


def train(scale: float, setting: str, processes: int) -> Figures:
    """VarShare in this process, or in as many as told; Lightning starts the others with the same command."""
    import torch

    from benchmarks import loops

    loops.quiet()
    sizes = SETTINGS[setting]
    data, module = loops.build(sizes, loops.timed_rollouts(sizes, scale), "varshare")
    strategy = "ddp" if processes > 1 else "auto"
    figures = loops.train(data, module, sizes.warmup, devices=processes, strategy=strategy)
    if processes > 1:
        torch.distributed.destroy_process_group()
    return figures


def side_by_side(scale: float, case: str) -> Figures:
    """Two runs of a case of one process at once, added up: what the cores have to give."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(partial(run_case, scale=scale), [case] * 2))
    return {SPEED: sum(figures[SPEED] for figures in both)}
