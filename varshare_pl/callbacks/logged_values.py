"""What loggers are told of a run, and under which names: one scheme for values of tasks, one key for each option."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from varshare_pl.combiners import combiner_names
from varshare_pl.results.columns import COLUMNS
from varshare_pl.results.info import RunInfo
from varshare_pl.sharing import method_names
from varshare_pl.types import Detail, Record
from varshare_pl.yaml_files import flat

Level = Literal["means", "tasks", "all"]
FINAL_RETURN = "final/return_mean"
OF_PAIRS = re.compile(r"(sharing|gradients)/cosine_with_\d+")  # metrics of pairs of tasks
ORDER = ("eval/", "train/", "loss/", "kl/", "sharing/")  # what is looked at first; the rest follows


def metrics_to_log(record: Record, tasks: Sequence[str], level: Level = "all") -> dict[str, float]:
    """The values of a record that loggers get, by name, returns first.

    Args:
        record: Of one rollout.
        tasks: Their names.
        level: "means": the columns of ``heartbeat.csv`` that are not of one task; "tasks": all its columns; "all": the
            values per network, layer and task too, but for those of pairs of tasks, which are in heat maps.
    """
    names = column_names(tasks, level)
    values = {names[name]: value for name, value in record.metrics.items() if name in names}
    if level == "all":
        values |= {name: value for name, value in record.metrics.items() if name not in names}
        told = (detail for detail in record.details if not OF_PAIRS.fullmatch(detail.metric))
        values |= {detail_name(detail, tasks): detail.value for detail in told}
    return in_order({name: float(value) for name, value in values.items() if not math.isnan(value)})


def in_order(values: Mapping[str, float]) -> dict[str, float]:
    """The same values, returns first, then losses, then what is shared; the rest as it came."""

    def place(name: str) -> int:
        return next((place for place, start in enumerate(ORDER) if name.startswith(start)), len(ORDER))

    return {name: values[name] for name in sorted(values, key=place)}


def column_names(tasks: Sequence[str], level: Level = "all") -> dict[str, str]:
    """The loggers' name for each column of ``heartbeat.csv``: ``train/return/low gravity`` for ``train/return_task_3``.

    Args:
        tasks: Their names.
        level: "means" leaves out the columns of one task.
    """
    names: dict[str, str] = {}
    for column in COLUMNS:
        stem = column.name.removesuffix("_task_m")
        if stem == column.name:
            names[stem] = stem
        elif level != "means":
            names |= {name: f"{stem}/{task}" for name, task in zip(column.names(len(tasks)), tasks, strict=True)}
    return names


def detail_name(detail: Detail, tasks: Sequence[str]) -> str:
    """A name such as ``sharing/ratio/actor/layer_1/low gravity``."""
    task = "" if detail.task is None else tasks[detail.task]
    return "/".join(part for part in (detail.metric, detail.network, detail.layer, task) if part)


def results_to_log(summary: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, float]:
    """The numbers of ``summary.json`` that runs are compared by."""
    final = summary.get("final", {})
    values = {
        FINAL_RETURN: final.get("return_mean"),
        "final/success_mean": final.get("success_mean"),
        "final/solved": final.get("solved"),
        **{
            f"final/{name}/{task}": value
            for name in ("return", "success")
            for task, value in zip(tasks, final.get(f"{name}_per_task", ()), strict=False)
        },
        "final/steps_to_solve": summary.get("steps_to_solve"),
        "final/seconds": summary.get("seconds"),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def config_to_log(config: Mapping[str, Any], info: RunInfo) -> dict[str, Any]:
    """A saved config under the names that its options have on the command line, with the run's method and suite.

    So an option has the same key as in a sweep, which gives it on the command line: ``model.kl_weight``, and
    ``model.sharing`` with the method's short name.
    """
    classes = {**method_names(), **combiner_names()}
    short = {f"{cls.__module__}.{cls.__qualname__}": name for name, cls in classes.items()}
    options: dict[str, Any] = {}
    for key, value in flat(dict(config)).items():
        named = key.removesuffix(".class_path")
        if not key.endswith(".init_args"):  # there are none
            options[named.replace(".init_args.", ".")] = short.get(value, value) if named != key else value
    told = {"method": info.method, "suite": info.suite}
    return {key: value for key, value in told.items() if value} | options
