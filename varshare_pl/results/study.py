"""What a report is of: the variants of a study, experiments side by side, the seeds of one, or a single run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.results.anchors import anchors_of, anchors_text
from varshare_pl.results.drawing import is_color
from varshare_pl.results.info import RunInfo, read_json
from varshare_pl.results.variant import SeedRun, Variant, is_run, listed, read_run, read_runs
from varshare_pl.types import Anchors

STUDY_FILE, FAILURES = "study.json", "failures"
REFERENCE = "independent"  # what transfer is measured against where no study says otherwise
FEW_EVALUATIONS = 5  # below that many the curves of a suite show the returns of training


@dataclass(frozen=True)
class Suite:
    """All methods on one suite; there is a run of at least one of them."""

    label: str
    variants: tuple[Variant, ...]  # in the order of the methods, those without runs too

    @cached_property
    def started(self) -> tuple[Variant, ...]:
        """The variants that have a run."""
        return tuple(variant for variant in self.variants if variant.runs)

    @property
    def info(self) -> RunInfo:
        return self.started[0].info

    @cached_property
    def names(self) -> list[str]:
        """A name for each task."""
        return max((variant.names for variant in self.started), key=len)

    @cached_property
    def anchors(self) -> Anchors | None:
        own = self.info.anchors
        if own is not None and len(own.low) == len(self.names):
            return own
        return anchors_of(self.info.suite, self.info.suite_version, len(self.names))

    @property
    def measure(self) -> str:
        """What success is measured by: "return" or "success"."""
        return self.info.measure

    @property
    def scored(self) -> bool:
        """Whether there are scores: success is one as it is, returns need anchors."""
        return self.anchors is not None or self.measure == "success"

    def scores(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What success is measured by, (…, num_tasks), as scores, or as it is for a suite without anchors."""
        return values if self.anchors is None else self.anchors.scores(values)

    @property
    def unit(self) -> str:
        return "score" if self.scored else "return"

    @property
    def score_words(self) -> str:
        """What a score is."""
        if self.anchors is None and self.measure == "success":
            return "mean success, as it is"
        return "0 is the random policy, 1 the most that can be earned"

    @property
    def measured_words(self) -> str:
        """What success is measured by, in headings."""
        return "success" if self.measure == "success" else "returns"

    @cached_property
    def kind(self) -> str:
        """Which returns the curves show: ``eval``, or ``train`` where a run has few evaluations."""
        runs = [run for variant in self.started for run in variant.runs if run.env_steps]
        counts = [int(np.isfinite(run.tables.column("eval/return_task_0")).sum()) for run in runs]
        return "eval" if counts and max(counts) >= FEW_EVALUATIONS else "train"


@dataclass(frozen=True)
class Study:
    """The variants that a report is of."""

    folder: Path
    name: str
    kind: str  # "study", "experiments", "experiment" or "run"
    suites: tuple[Suite, ...]
    methods: tuple[str, ...]  # all labels, in order
    description: str = ""
    reference: str | None = None  # the method that transfer is measured against
    tuning: dict[str, Any] | None = None
    expected_head_energy: Mapping[str, float] = field(default_factory=dict)  # of the actor, by suite
    names: Mapping[str, str] = field(default_factory=dict)  # to show in place of methods' labels
    colors: Mapping[str, str] = field(default_factory=dict)  # of methods in figures, by label
    notes: tuple[str, ...] = ()  # what a reader has to know of what was left out

    def shown(self, method: str) -> str:
        """What a method is called in figures and tables."""
        return self.names.get(method, method)

    def kind_of(self, method: str) -> str:
        """What a method is, whatever its label: the sharing method, with the combiner if there is one."""
        runs = [run for variant in self.variants if variant.method == method for run in variant.runs if run.info.method]
        if not runs:
            return method
        combiner = runs[0].options.get("model.combiner.class_path", "").rpartition(".")[2]
        return " ".join(filter(None, (runs[0].info.method, combiner)))

    @property
    def variants(self) -> list[Variant]:
        return [variant for suite in self.suites for variant in suite.variants]


def read_study(folder: Path | str) -> Study:
    """Read the folder of a study, of several experiments, of one (``logs/<experiment>``) or of a run.

    Raises:
        ConfigError: if it holds no run, if runs that belong together differ in more than the seed, or if a file is
            spoilt.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if (folder / STUDY_FILE).is_file():
        return _planned_study(folder)
    alone = is_run(folder)
    runs = (read_run(folder),) if alone else read_runs(folder)
    found = {folder: runs} if runs else {path: read_runs(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    found = {path: runs for path, runs in found.items() if runs}
    if not found:
        raise ConfigError(f"{folder} holds no run; give the folder of a study, of experiments, of one or of a run")
    variants = _variants(found)
    suites = _suites(folder, variants, _ordered([variant.suite for variant in variants]))
    methods = _ordered([variant.method for variant in variants])
    name = f"{folder.resolve().parent.name}/{folder.resolve().name}" if alone else folder.resolve().name
    kind = "run" if alone else "experiment" if runs else "experiments"
    return Study(folder, name, kind, suites, tuple(methods), reference=REFERENCE if REFERENCE in methods else None)


def _variants(found: Mapping[Path, tuple[SeedRun, ...]]) -> list[Variant]:
    """A variant for each experiment's runs, by the names in its files; two of one method go by their folders' names."""
    variants = []
    for folder, runs in found.items():
        info = next((run.info for run in runs if run.info.suite), runs[0].info)
        method = info.method or info.experiment
        variants.append(Variant(folder.resolve().name, info.suite or info.experiment, method, folder, runs))
    labels = [(variant.suite, variant.method) for variant in variants]
    return [v if labels.count((v.suite, v.method)) == 1 else replace(v, method=v.name) for v in variants]


def _planned_study(folder: Path) -> Study:
    path = folder / STUDY_FILE
    plan = read_json(path)
    try:
        seeds = tuple(int(seed) for seed in plan["seeds"])
        rows = [(str(row["name"]), str(row["suite"]), str(row["method"])) for row in plan["variants"]]
        steps = None if plan.get("env_steps") is None else int(plan["env_steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not the plan of a study: {type(error).__name__}: {error}") from None
    pairs = [(suite, method) for _, suite, method in rows]
    for pair in pairs:
        if pairs.count(pair) > 1:
            raise ConfigError(f"{path}: two variants are method {pair[1]} on suite {pair[0]}; one is allowed")
    failures = _read_failures(folder / FAILURES)
    variants, notes = [], []
    for name, suite, method in rows:
        runs = read_runs(folder / name)
        strange = [run.name for run in runs if run.info.seed not in seeds]
        if strange:
            notes.append(f"{name}: {', '.join(strange)} left out, not among the study's seeds")
        kept = tuple(run for run in runs if run.info.seed in seeds)
        variants.append(Variant(name, suite, method, folder / name, kept, seeds, failures.get(name, {}), steps))
    suites = _ordered([variant.suite for variant in variants], plan.get("suite_order"))
    methods = _ordered([variant.method for variant in variants], plan.get("method_order"))
    variants.sort(key=lambda variant: methods.index(variant.method))
    notes += [
        f"{label}: no run has started" for label in suites if not any(v.runs for v in variants if v.suite == label)
    ]
    found = _suites(folder, variants, suites)
    if not found:
        raise ConfigError(f"{folder} holds no run of its study yet; start it with 'varshare study'")
    reference = plan.get("reference")
    return Study(
        folder,
        str(plan.get("name") or folder.resolve().name),
        "study",
        found,
        tuple(methods),
        str(plan.get("description") or ""),
        None if reference is None else str(reference),
        plan.get("tuning"),
        plan.get("expected_head_energy") or {},
        plan.get("method_names") or {},
        _colors(path, plan.get("method_colors") or {}),
        tuple(notes),
    )


def _colors(path: Path, colors: Mapping[str, str]) -> Mapping[str, str]:
    for method, color in colors.items():
        if not is_color(color):
            raise ConfigError(f"{path}: method_colors.{method}: {color} is not allowed; a colour of matplotlib is")
    return colors


def _suites(folder: Path, variants: Sequence[Variant], labels: Sequence[str]) -> tuple[Suite, ...]:
    """The suites that have a run, with their variants."""
    every = [Suite(label, tuple(v for v in variants if v.suite == label)) for label in labels]
    found = tuple(suite for suite in every if suite.started)
    for suite in found:
        _check_suite(folder, suite)
    return found


def _ordered(labels: Sequence[str], order: Any = None) -> list[str]:
    """The labels once each, those of the order first."""
    wanted = [str(label) for label in order or ()]
    return list(dict.fromkeys([*(label for label in wanted if label in labels), *labels]))


def _read_failures(folder: Path) -> dict[str, dict[int, str]]:
    """The last error line of each failed run: variant → seed → message."""
    failures: dict[str, dict[int, str]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        failure = read_json(path)
        try:
            variant, seed = str(failure["variant"]), int(failure["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: not the record of a failure: {type(error).__name__}: {error}") from None
        message = " ".join(str(failure.get("message") or "").split())
        failures.setdefault(variant, {})[seed] = message or f"exit code {failure.get('exit_code')}"
    return failures


def _check_suite(folder: Path, suite: Suite) -> None:
    """Refuse to compare methods on different suites under one label."""
    facts: tuple[tuple[str, Callable[[Variant], object]], ...] = (
        ("suite", lambda variant: variant.info.suite),
        ("suite version", lambda variant: variant.info.suite_version),
        ("tasks", lambda variant: listed(variant.info.task_names)),
        ("number of tasks", lambda variant: len(variant.names) or None),
        ("success", lambda variant: variant.info.rule or variant.info.measure),
        ("solved return", lambda variant: variant.info.solved),
        ("anchors", lambda variant: anchors_text(variant.info.anchors)),
    )
    for what, fact in facts:
        known = [(variant.name, fact(variant)) for variant in suite.started if fact(variant) not in ("", None)]
        for name, value in known[1:]:
            if value != known[0][1]:
                raise ConfigError(
                    f"{folder}: suite {suite.label}: {what} is {known[0][1]} in {known[0][0]}, {value} in {name}"
                )
