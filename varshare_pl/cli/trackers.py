"""Trackers of experiments that runs are sent to, by their own Python calls."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from varshare_pl.callbacks.logged_values import column_names, config_to_log, in_order, results_to_log
from varshare_pl.results.info import read_json
from varshare_pl.results.run_tables import RunTables, read_tables
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE
from varshare_pl.yaml_files import read_yaml

MLFLOW_BATCH, MLFLOW_LONGEST = 100, 6000  # params in a call, characters of one


class SentRun(NamedTuple):
    """What a tracker is told of a run, under the names that loggers get."""

    name: str
    config: dict[str, Any]
    rows: list[tuple[int, dict[str, float]]]  # env steps and values of each rollout
    results: dict[str, float]


def send(folder: Path, tracker: str, project: str) -> int:
    """Send the run in a folder to a tracker, "mlflow" or "trackio"; gives the number of its rows."""
    tables = read_tables(folder)
    info, names = tables.info, tables.names
    run = SentRun(
        f"{info.experiment}/seed_{info.seed}",
        config_to_log(read_yaml(folder / CONFIG_FILE), info),
        list(_rows(tables)),
        results_to_log(read_json(folder / SUMMARY_FILE), names),
    )
    {"mlflow": _to_mlflow, "trackio": _to_trackio}[tracker](importlib.import_module(tracker), run, project)
    return len(run.rows)


def _rows(tables: RunTables) -> Iterator[tuple[int, dict[str, float]]]:
    names = column_names(tables.names)
    steps = tables.beats["env_steps"].tolist()
    for row, env_steps in enumerate(steps):
        # A column that this version does not know keeps its name.
        values = {names.get(name, name): float(column[row]) for name, column in tables.beats.items()}
        yield int(env_steps), in_order({name: value for name, value in values.items() if not math.isnan(value)})


def _to_mlflow(mlflow: Any, run: SentRun, project: str) -> None:
    mlflow.set_experiment(project)
    with mlflow.start_run(run_name=run.name):
        params = [(_mlflow_name(key), str(value)[:MLFLOW_LONGEST]) for key, value in run.config.items()]
        for start in range(0, len(params), MLFLOW_BATCH):
            mlflow.log_params(dict(params[start : start + MLFLOW_BATCH]))
        for env_steps, values in run.rows:
            mlflow.log_metrics({_mlflow_name(name): value for name, value in values.items()}, step=env_steps)
        if run.results:
            last = run.rows[-1][0] if run.rows else 0
            mlflow.log_metrics({_mlflow_name(name): value for name, value in run.results.items()}, step=last)


def _mlflow_name(name: str) -> str:
    """A name of the characters that MLflow allows."""
    return re.sub(r"[^\w./ :-]", "_", name, flags=re.ASCII)


def _to_trackio(trackio: Any, run: SentRun, project: str) -> None:
    trackio.init(project=project, name=run.name, config=run.config)
    for env_steps, values in run.rows:
        trackio.log(values, step=env_steps)
    if run.results:
        trackio.log(run.results, step=run.rows[-1][0] if run.rows else 0)
    trackio.finish()
