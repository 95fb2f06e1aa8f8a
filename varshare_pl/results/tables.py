"""The tables of a report, as text cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from varshare_pl.results.analysis import Analysis, SuiteResults
from varshare_pl.results.scores import Difference, Estimate, MethodScores, Solving
from varshare_pl.results.statistics import INTERVALS
from varshare_pl.results.study import Study

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table: the first column is words, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""


def answer_table(analysis: Analysis) -> Table:
    """A row for each method: its IQM over all suites, and on each suite; runs finished and solved, steps to solve."""
    header = ["method"]
    if analysis.overall:
        header.append("all suites")
    for results in analysis.suites:
        header += [f"{results.suite.label} ({results.suite.unit})", "runs"]
        header += ["solved", "at env step"] if _solvable(results) else []
    rows = []
    for method in analysis.study.methods:
        cells = [analysis.study.shown(method)]
        if analysis.overall:
            cells.append(iqm_cell(analysis.overall.get(method), 2))
        for results in analysis.suites:
            found = results.by_method.get(method)
            cells += [iqm_cell(found.overall if found else None, _digits(results)), _runs(results, method)]
            cells += _solving(found.solving if found else None, interval=False) if _solvable(results) else []
        rows.append(tuple(cells))
    caption = (
        f"IQM over runs and tasks of the final evaluation [{INTERVALS[analysis.interval]}]; runs: finished / planned."
    )
    if any(map(_solvable, analysis.suites)):
        caption += " At env step: the median run's, from where on all its evaluations are solved."
    if analysis.overall:
        caption += " All suites: the mean of their IQMs."
    return Table("Final scores", tuple(header), rows, caption)


def suite_table(analysis: Analysis, results: SuiteResults) -> Table:
    """A row for each method with all its numbers on a suite."""
    suite, digits = results.suite, _digits(results)
    reference = analysis.study.reference
    solvable, success = _solvable(results), suite.measure == "success"
    header = ["method", "runs", *(["final success"] if success else []), "final return"]
    header += [f"IQM {suite.unit} [95 %]", "worst task", "area under curve"]
    header += ["solved", "env steps to solve [95 %]"] if solvable else []
    header += [f"transfer from {analysis.study.shown(reference or '')}"] if results.transfer else []
    header += ["parameters, active / stored"]
    rows = []
    for variant in suite.variants:
        found = results.by_method.get(variant.method)
        cells = [analysis.study.shown(variant.method), _runs(results, variant.method)]
        if found is None or not found.runs:
            rows.append((*cells, *[NONE] * (len(header) - 2)))
            continue
        cells += [mean_cell(found.success[-1], 2)] if success else []
        cells += [mean_cell(found.overall_return, 1), iqm_cell(found.overall, digits)]
        cells += [mean_cell(found.worst, digits), mean_cell(found.area, digits)]
        cells += _solving(found.solving) if solvable else []
        cells += [_difference(results.transfer.get(variant.method), digits)] if results.transfer else []
        rows.append((*cells, _parameters(found)))
    caption = f"Mean ± standard deviation over finished runs (n − 1). Worst task: each run's lowest {suite.unit}. "
    kind = "evaluations" if suite.kind == "eval" else "training, as there are few evaluations"
    caption += f"Area under curve: mean {suite.unit} over env steps, of {kind}."
    if solvable:
        caption += " Env steps to solve: median; a run that ended unsolved counts as slower than any other."
    if suite.scored:
        caption += f" Score: {suite.score_words}."
    return Table(f"Results on {suite.label}", tuple(header), rows, caption)


def task_table(study: Study, results: SuiteResults) -> Table:
    """A row for each task, a column for each method: mean ± standard deviation of the final returns, or success."""
    done, suite = [found for found in results.scores if found.runs], results.suite
    success = suite.measure == "success"
    cells = [found.success if success else (*found.tasks, found.overall_return) for found in done]
    runs = ", ".join(f"{study.shown(found.variant.method)} {_runs(results, found.variant.method)}" for found in done)
    rows = [
        (name, *(mean_cell(column[m], 2 if success else 1) for column in cells))
        for m, name in enumerate([*suite.names, "mean"])
    ]
    header = ("task", *(study.shown(found.variant.method) for found in done))
    caption = f"Final {suite.measure}, mean ± standard deviation over finished runs (n − 1). Finished runs: {runs}."
    return Table(f"Final {suite.measured_words} by task: {suite.label}", header, rows if done else [], caption)


def few_runs(analysis: Analysis) -> list[str]:
    """What a reader has to know of bootstrap intervals of few runs; nothing where there are none."""
    every = [found.overall for results in analysis.suites for found in results.scores if found.runs > 1]
    few = [found for found in every if not math.isnan(found.coverage)]
    if not few or analysis.interval != "bootstrap":
        return []
    worst = min(few, key=lambda found: found.runs)
    return [
        f"few runs: the {INTERVALS['bootstrap']} of {worst.runs} runs covers the true IQM in "
        f"{100 * worst.coverage:.0f} % of cases, by simulation; 'varshare report --interval t' gives wider ones, "
        "which cover it in about 95 %"
    ]


def iqm_cell(found: Estimate | None, digits: int) -> str:
    """``0.91 [0.85, 0.97]``, or ``0.91 [0.85, 0.97; covers 74 %]`` of few runs."""
    if found is None or not found.runs:
        return NONE
    return f"{found.iqm:.{digits}f}{_interval(found.low, found.high, digits, found.coverage)}"


def mean_cell(found: Estimate, digits: int) -> str:
    """``0.91 ± 0.05``."""
    if not found.runs:
        return NONE
    return f"{found.mean:.{digits}f}" + ("" if math.isnan(found.std) else f" ± {found.std:.{digits}f}")


def _interval(low: float, high: float, digits: int, coverage: float) -> str:
    if math.isnan(low):
        return ""
    covers = "" if math.isnan(coverage) else f"; covers {100 * coverage:.0f} %"
    return f" [{low:.{digits}f}, {high:.{digits}f}{covers}]"


def _difference(found: Sequence[Difference] | None, digits: int) -> str:
    if not found:
        return NONE
    mean = found[-1]
    return f"{mean.value:+.{digits}f}" + (
        "" if math.isnan(mean.low) else f" [{mean.low:+.{digits}f}, {mean.high:+.{digits}f}]"
    )


def _solvable(results: SuiteResults) -> bool:
    return results.suite.info.solved is not None


def _solving(found: Solving | None, interval: bool = True) -> list[str]:
    if found is None:
        return [NONE, NONE]
    cells = [f"{found.solved}/{len(found.steps)}", "not solved"]
    if math.isfinite(found.median):
        cells[1] = f"{found.median:,.0f}"
        if interval and not math.isnan(found.low):
            cells[1] += f" [{found.low:,.0f}, {f'{found.high:,.0f}' if math.isfinite(found.high) else 'not solved'}]"
    return cells


def _parameters(found: MethodScores) -> str:
    sizes = found.variant.finals[0].summary.get("parameters")
    if not isinstance(sizes, dict):
        return NONE
    return " / ".join(f"{sizes[name]:,}" if isinstance(sizes.get(name), int) else NONE for name in ("active", "stored"))


def _runs(results: SuiteResults, method: str) -> str:
    """``9/10``, and how many failed."""
    for variant in results.suite.variants:
        if variant.method == method:
            finished = {run.info.seed for run in variant.finals}
            failed = len(set(variant.failures) - finished)
            return f"{len(variant.finals)}/{variant.planned}" + (f" ({failed} failed)" if failed else "")
    return NONE


def _digits(results: SuiteResults) -> int:
    return 2 if results.suite.scored else 1
