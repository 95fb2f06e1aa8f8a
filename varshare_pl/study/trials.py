"""The trials of one variant's search.

Trial t follows from the results of the trials before it and from nothing else: Optuna's sampler is made anew for each,
with a seed of its own. So a search that was stopped goes on exactly, and nothing but its runs is kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from varshare_pl.errors import ConfigError
from varshare_pl.files import write_json, write_text
from varshare_pl.results.info import read_json, read_run_info
from varshare_pl.study.definition import Study, Variant
from varshare_pl.study.folder import StudyFolder
from varshare_pl.study.runs import Run, State, make_run, mean_over_run
from varshare_pl.study.search import Parameter, Tuning, saved_name
from varshare_pl.study.values import arguments
from varshare_pl.yaml_files import dump, same

if TYPE_CHECKING:
    import optuna

STARTUP = 4  # trials before the sampler learns from results, and before the pruner judges: the first and random ones


class Search:
    """The trials of one variant, read from their runs; the first one has the values of ``start``."""

    def __init__(
        self,
        study: Study,
        tuning: Tuning,
        variant: Variant,
        folder: StudyFolder,
        logs_dir: Path,
        start: Mapping[str, Any],
    ) -> None:
        self._study, self._tuning, self.variant = study, tuning, variant
        self._folder, self._logs_dir, self._start = folder, logs_dir, start
        self._place = folder.path / "tuning" / variant.name
        self.trials: list[optuna.trial.FrozenTrial] = []  # those that have ended
        self.runs: list[Run] = []  # of these, and of the trial under way

    def _identity(self) -> dict[str, Any]:
        """What a trial depends on besides the trials before it."""
        space = {
            key: vars(parameter) | {"choices": list(parameter.choices)}
            for key, parameter in self._tuning.parameters.items()
        }
        return (
            self._tuning.record()
            | {"trials": None, "space": space, "start": dict(self._start)}
            | {"args": list(self.variant.args)}
        )

    def check(self) -> None:
        """See that earlier trials are of the same search; there may be more of them than before.

        Raises:
            ConfigError: if they are not.
        """
        known = read_json(self._place / "search.json")
        for key, value in self._identity().items():
            if known and not same(known.get(key), value):
                raise ConfigError(
                    f"tune: {key} is {json.dumps(value)}, the trials in {self._place} were made with "
                    f"{json.dumps(known.get(key))}; move them away to tune again"
                )

    def begin(self) -> None:
        """Remember what the trials are of."""
        if not (self._place / "search.json").exists():
            self._place.mkdir(parents=True, exist_ok=True)
            write_json(self._place / "search.json", self._identity())

    def advance(self) -> bool:
        """Take in the trials that have ended and plan the next one; gives whether one is under way."""
        while len(self.trials) < self._tuning.trials:
            trial = self._ask()
            runs = self._runs(len(self.trials), trial.params)
            frozen = self._judge(trial, runs)
            if frozen is None:
                return True
            self.trials.append(frozen)
        return False

    def _judge(self, trial: optuna.Trial, runs: Sequence[Run]) -> optuna.trial.FrozenTrial | None:
        """The trial as it ended, or None while runs are missing; with a pruner one run is planned after the other."""
        import optuna

        pruning = self._tuning.pruner != "none"
        values: list[float] = []
        state = optuna.trial.TrialState.COMPLETE
        waiting = False
        for step, run in enumerate(runs):
            self._add(run)
            found = self._folder.state(run)
            if found is State.FAILED:
                state = optuna.trial.TrialState.FAIL
            elif found is State.FINISHED:
                values.append(mean_over_run(run.folder, run.env_steps))
                trial.report(fmean(values), step)
            else:
                waiting = True
            if not pruning:
                continue
            if waiting or state is optuna.trial.TrialState.FAIL:
                break
            if step + 1 < len(runs) and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        if waiting:
            return None
        return optuna.trial.create_trial(
            state=state,
            params=trial.params,
            distributions=trial.distributions,
            value=fmean(values) if state is not optuna.trial.TrialState.FAIL else None,
            intermediate_values=dict(enumerate(_means(values))),
            user_attrs={"trial": len(self.trials)},
        )

    def _add(self, run: Run) -> None:
        if run not in self.runs:
            self.runs.append(run)

    def _ask(self) -> optuna.Trial:
        import optuna

        # The same for every variant: all begin with the same points.
        name = f"{self._study.name}/{len(self.trials)}"
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if self._tuning.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self._tuning.pruner == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=0)
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        study.add_trials(self.trials)
        if not self.trials:
            study.enqueue_trial(dict(self._start))
        return study.ask({key: _distribution(parameter) for key, parameter in self._tuning.parameters.items()})

    def _runs(self, trial: int, params: dict[str, Any]) -> list[Run]:
        options = [*self.variant.args, *arguments(params), *self._tuning.length()]
        place = ("tuning", self.variant.name, f"trial_{trial}")
        return [
            make_run(self._study.name, place, options, seed, self._logs_dir, self._tuning.env_steps)
            for seed in self._tuning.seeds
        ]

    def best(self) -> optuna.trial.FrozenTrial | None:
        """The complete trial with the highest ``mean_over_run``; the earliest of equal ones."""
        complete = [trial for trial in self.trials if trial.state.name == "COMPLETE"]
        return max(complete, key=_value, default=None)

    def tuned_config(self) -> str:
        """The best values as a config file, to be put behind the variant's other configs."""
        best = self.best()
        if best is None:
            return ""
        config: dict[str, Any] = {}
        for key, value in best.params.items():
            section = config
            *parents, last = saved_name(key).split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        tuning = self._tuning
        head = (
            f"# The best of {tuning.trials} trials ({tuning.sampler}, pruner: {tuning.pruner}) of {self.variant.name}: "
        )
        value = f"{best.value:.{1 if self._measure == 'return' else 3}f}"
        head += f"mean {self._measure} {value} over the evaluations up to {tuning.env_steps:,} env steps, "
        head += f"seeds {list(tuning.seeds)}.\n"
        return head + dump(config)

    @property
    def _measure(self) -> str:
        """What the runs are judged by: "return", or "success" where the suite measures it."""
        begun = (run for run in self.runs if run.begun)
        return next((read_run_info(run.folder).measure for run in begun), "return")

    def write_trials(self) -> None:
        """Write ``trials.csv``: number, state, mean of the suite's measure, and values of each trial that has ended."""
        keys = list(self._tuning.parameters)
        rows: list[list[Any]] = [["trial", "state", f"{self._measure}_mean", *keys]]
        for number, trial in enumerate(self.trials):
            value = "" if trial.value is None else f"{trial.value:.9g}"
            rows.append([number, trial.state.name.lower(), value, *(trial.params[key] for key in keys)])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        path = self._place / "trials.csv"
        if not path.is_file() or path.read_bytes() != text.getvalue().encode():  # asked for about once a second
            write_text(path, text.getvalue())


def _value(trial: optuna.trial.FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _means(values: Sequence[float]) -> list[float]:
    return [fmean(values[: i + 1]) for i in range(len(values))]


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    import optuna

    if parameter.choices:
        return optuna.distributions.CategoricalDistribution(parameter.choices)
    if parameter.whole:
        return optuna.distributions.IntDistribution(int(parameter.low), int(parameter.high), parameter.log)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, parameter.log)
