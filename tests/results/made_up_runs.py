"""Run folders without training: tables of plausible numbers, written as a run writes them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.results.files import DIAGNOSTICS_COLUMNS

LAYERS = ("layer_1", "layer_2", "head")
PER_TASK = ("sharing/ratio", "sharing/mu_norm", "sharing/sigma", "sharing/specialised", "kl/posterior")
PER_LAYER = ("sharing/energy", "sharing/theta_norm", "sharing/task_similarity")


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
