"""Runs made up for the readers and the plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import write_run
from seed_runs import SIZE, write_seed, write_summary

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write the files of a run that looks like one: ``make_run(num_tasks, rows, sharing=..., names=...)``."""

    def make(num_tasks: int, rows: int = 60, sharing: bool = True, names: list[str] | None = None) -> Path:
        run = tmp_path / f"run_{num_tasks}_{rows}_{sharing}" / "seed_1"
        run.mkdir(parents=True)
        write_run(run, num_tasks, rows, sharing)
        if names is not None:
            info = {
                "experiment": "made_up",
                "seed": 1,
                "suite": "MadeUpSuite",
                "method": "VarShare" if sharing else "one shared net",
                "task_names": names,
                "solved_return": 475.0,
            }
            (run / "run.json").write_text(json.dumps(info))
        return run

    return make


@pytest.fixture
def three(tmp_path):
    """Three finished seeds; the final returns have means 95, 80 and 87.5, and the third seed is not solved."""
    experiment = tmp_path / "made_up"
    for seed, level in ((1, 0.0), (2, 30.0), (3, 60.0)):
        train = [[10 + level, None], [None, 20 + level], [30 + level, None], [40 + level, 50]]
        final = {1: [95.0, 100.0], 2: [92.0, 90.0], 3: [98.0, 50.0]}[seed]
        solved_at = {1: 200, 2: 400, 3: None}[seed]
        run = write_seed(experiment, seed, train, {1: [seed, 2 * seed], 3: final}, ratio=0.1 * seed)
        write_summary(run, final, SIZE * 4, solved_at=solved_at)
    return experiment
