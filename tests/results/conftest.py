"""Runs made up for the readers and the plots."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from seed_runs import SIZE, write_seed, write_summary

from varshare_pl.results import figures
from varshare_pl.results.files import DIAGNOSTICS_COLUMNS, heartbeat_columns

LAYERS = ("layer_1", "layer_2", "head")
PER_TASK = ("sharing/ratio", "sharing/mu_norm", "sharing/sigma", "sharing/specialised", "kl/posterior")
PER_LAYER = ("sharing/energy", "sharing/theta_norm", "sharing/task_similarity")

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


def write_run(run: Path, num_tasks: int, rows: int, sharing: bool) -> None:
    rng = np.random.default_rng(3)
    with (run / "heartbeat.csv").open("w", newline="") as beats, (run / "diagnostics.csv").open("w") as details:
        heartbeat = csv.DictWriter(beats, heartbeat_columns(num_tasks), restval="", lineterminator="\n")
        heartbeat.writeheader()
        details.write(",".join(DIAGNOSTICS_COLUMNS) + "\n")
        for i in range(1, rows + 1):
            share = i / rows
            heartbeat.writerow(beat(rng, i, share, num_tasks, sharing))
            for metric, network, layer, task, value in detail_rows(rng, share, num_tasks, sharing):
                details.write(f"{5120 * i},{metric},{network},{layer},{task},{value:.9g}\n")


def beat(rng: np.random.Generator, i: int, share: float, num_tasks: int, sharing: bool) -> dict[str, float]:
    def level(m: int) -> float:
        return 500 / (1 + math.exp(-14 * (share - 0.25 - 0.25 * m / num_tasks)))

    row: dict[str, float] = {"env_steps": 5120 * i, "episodes": 30 * i, "gradient_steps": 16 * i, "sps": 33000.0}
    row |= {"wall_time_s": 0.16 * i, "loss/policy": rng.normal(-0.01, 0.004)}
    row |= {"loss/value": 300 * math.exp(-4 * share) * rng.uniform(0.6, 1.4), "loss/entropy": 0.69 - 0.3 * share}
    row |= {"kl/policy": rng.uniform(0.002, 0.01), "diagnostics/grad_norm": rng.uniform(0.2, 0.6)}
    row |= {"diagnostics/clip_fraction": rng.uniform(0.02, 0.15), "diagnostics/explained_variance": share**0.3}
    if sharing:
        row |= {"loss/kl": 0.05 * share, "kl/posterior": 1800 * math.exp(-3 * share), "sharing/ratio": 0.97}
    row["loss/total"] = row["loss/policy"] + 0.5 * row["loss/value"] + row.get("loss/kl", 0.0)
    for m in range(num_tasks):
        if rng.random() < 0.6:
            row[f"train/return_task_{m}"] = min(500.0, max(9.0, level(m) + rng.normal(0, 40)))
        if i % 4 == 0:
            row[f"eval/return_task_{m}"] = min(500.0, max(9.0, level(m) + rng.normal(0, 12)))
    for kind in ("train", "eval"):
        values = [value for name, value in row.items() if name.startswith(f"{kind}/return_task_")]
        if values:
            row[f"{kind}/return_mean"] = float(np.mean(values))
    return row


def detail_rows(
    rng: np.random.Generator, share: float, num_tasks: int, sharing: bool
) -> list[tuple[str, str, str, int | str, float]]:
    rows: list[tuple[str, str, str, int | str, float]] = []
    for n, network in enumerate(("actor", "critic")):
        rows.append(("diagnostics/grad_norm", network, "", "", rng.uniform(0.2, 0.6) + n))
        for k, layer in enumerate(LAYERS if sharing else ()):
            rows += [(metric, network, layer, "", (3 + k + n) * (1 + share)) for metric in PER_LAYER]
            for m in range(num_tasks):
                mu = (0.2 + 0.6 * (k == 2) * m / num_tasks) * (1 + share) + rng.normal(0, 0.01)
                theta = (3 + k + n) * (1 + share)
                values = (
                    theta / (theta + mu),
                    mu,
                    (0.006 + 0.003 * k) * (1 + share),
                    0.1,
                    (300 + 40 * m) * math.exp(-3 * share),
                )
                rows += [(name, network, layer, m, v) for name, v in zip(PER_TASK, values, strict=True)]
    return rows


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn instead of images: sheet → {panel: axes}."""
    sheets = {}

    def draw(path, title, panels, *options, **more):
        axes = {}
        for panel in panels:
            panel.draw(axes.setdefault(panel.title, Figure().add_subplot()))
        sheets[path.stem] = axes
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(figures, "write_sheet", draw)
    return sheets


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
