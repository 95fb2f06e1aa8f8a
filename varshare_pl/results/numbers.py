"""Every number behind the figures and tables of a report, as rows of ``scores.csv`` and ``timings.csv``.

A row with a seed is of one run; one without is over the finished runs, or over those that have come so far on a
curve. What depends on the clock is in ``timings.csv`` alone: the same runs give the same ``scores.csv``, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from varshare_pl.results.analysis import Analysis, SuiteResults
from varshare_pl.results.curves import Band
from varshare_pl.results.protocol import missing_seeds
from varshare_pl.results.scores import THRESHOLDS, Estimate, MethodScores
from varshare_pl.results.statistics import average, mean_and_std
from varshare_pl.results.variant import Variant

COLUMNS = (
    *("metric", "suite", "method", "other", "seed", "network", "layer", "task"),
    *("x", "value", "std", "iqm", "low", "high", "runs"),
)
ALL_SUITES = "all suites"
Row = dict[str, object]


def score_rows(analysis: Analysis) -> Iterator[Row]:
    """The rows of ``scores.csv``; ``x`` is env steps, of a profile the threshold; low and high are 95 % intervals."""
    for method, overall in analysis.overall.items():
        yield {"metric": "final/score", "suite": ALL_SUITES, "method": method, **_estimate(overall)}
    for results in analysis.suites:
        for variant in results.suite.variants:
            yield from (_at(results, variant.method) | row for row in _state_rows(variant))
        for found in results.scores:
            yield from (_at(results, found.variant.method) | row for row in _method_rows(results, found))
        yield from _pair_rows(analysis, results)
        for method, bands in results.bands.items():
            yield from (_at(results, method) | row for band in bands for row in _band_rows(band))
        for variant in results.suite.started:
            yield from (_at(results, variant.method) | row for row in _layer_rows(results, variant))


def timing_rows(analysis: Analysis) -> Iterator[Row]:
    """The rows of ``timings.csv``; ``x`` is seconds of training."""
    for results in analysis.suites:
        for variant in results.suite.started:
            for run in variant.runs:
                own = {**_at(results, variant.method), "seed": run.info.seed}
                yield {**own, "metric": "seconds", "value": run.seconds}
                yield {**own, "metric": "env_steps_per_second", "value": run.env_steps / (run.seconds or math.nan)}
                if isinstance(run.summary.get("peak_memory_mb"), int | float):
                    yield {**own, "metric": "peak_memory_mb", "value": run.summary["peak_memory_mb"]}
            for band in results.seconds.get(variant.method, ()):
                yield from (_at(results, variant.method) | row for row in _band_rows(band))


def cell(value: object) -> str:
    """A number to nine digits, whole ones in full; nothing for None and NaN."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if math.isnan(number):
        return ""
    return str(int(number)) if math.isfinite(number) and number == int(number) else f"{number:.9g}"


def _at(results: SuiteResults, method: str) -> Row:
    return {"suite": results.suite.label, "method": method}


def _estimate(found: Estimate) -> Row:
    names = ("value", "std", "iqm", "low", "high", "runs")
    return {name: getattr(found, own) for name, own in zip(names, found._fields, strict=False)}


def _state_rows(variant: Variant) -> Iterator[Row]:
    """Of each seed whether its run is finished, and how far it came."""
    for run in variant.runs:
        yield {"metric": "state", "seed": run.info.seed, "x": run.env_steps, "value": variant.state(run)}
    there = {run.info.seed for run in variant.runs}
    for seed in sorted(set(variant.failures) - there):
        yield {"metric": "state", "seed": seed, "value": "failed"}
    for seed in missing_seeds(variant):
        yield {"metric": "state", "seed": seed, "value": "not started"}


def _method_rows(results: SuiteResults, found: MethodScores) -> Iterator[Row]:
    if not found.runs:
        return
    tables = [("final/return", found.returns)]
    tables += [("final/success", found.measured)] if found.success else []
    tables += [("final/score", found.scores)] if results.suite.scored else []
    for metric, values in tables:
        for run, row in zip(found.variant.finals, values, strict=True):
            yield from ({"metric": metric, "seed": run.info.seed, "task": m, "value": v} for m, v in enumerate(row))
            yield {"metric": metric, "seed": run.info.seed, "value": average(row)}
    for m, of_task in enumerate(found.tasks):
        yield {"metric": "final/return", "task": m, **_estimate(of_task)}
    yield {"metric": "final/return", **_estimate(found.overall_return)}
    for task, of_success in zip([*range(len(found.tasks)), None], found.success, strict=False):
        yield {"metric": "final/success", "task": task, **_estimate(of_success)}
    unit = results.suite.unit
    if unit == "score":
        yield {"metric": "final/score", **_estimate(found.overall)}
    yield {"metric": f"worst_task/{unit}", **_estimate(found.worst)}
    for run, area in zip(found.variant.finals, found.areas, strict=True):
        yield {"metric": f"area_under_curve/{unit}", "seed": run.info.seed, "value": area}
    yield {"metric": f"area_under_curve/{unit}", **_estimate(found.area)}
    if found.solving is not None:
        solving = found.solving
        for run, steps in zip(found.variant.finals, solving.steps, strict=True):
            yield {"metric": "steps_to_solve", "seed": run.info.seed, "value": steps}
        median = {"value": solving.median, "low": solving.low, "high": solving.high, "runs": found.runs}
        yield {"metric": "steps_to_solve_median", **median}
        yield {"metric": "solved_runs", "value": solving.solved, "runs": found.runs}


def _pair_rows(analysis: Analysis, results: SuiteResults) -> Iterator[Row]:
    """Comparisons of methods, and each one's profile."""
    for (ours, theirs), found in results.improvements.items():
        yield {"metric": "probability_of_improvement", **_at(results, ours), "other": theirs, **found._asdict()}
    for method, rows in results.transfer.items():
        for task, found in zip([*range(len(rows) - 1), None], rows, strict=True):
            own = {"metric": f"transfer/{results.suite.unit}", **_at(results, method)}
            yield {**own, "other": analysis.study.reference, "task": task, **found._asdict()}
    for method, profile in results.profiles.items():
        for x, share, low, high in zip(THRESHOLDS, *profile, strict=True):
            yield {"metric": "profile", **_at(results, method), "x": x, "value": share, "low": low, "high": high}


def _layer_rows(results: SuiteResults, variant: Variant) -> Iterator[Row]:
    """The layers at the end: energies and norms of each run and over runs, cosines over runs."""
    found, seeds = results.layers[variant.method], [run.info.seed for run in variant.finals]
    for metric, layers in (("final/energy", found.energy), ("final/mu_norm", found.norms)):
        for (network, layer), values in layers.items():
            for column, (mean, std, runs) in enumerate(zip(*mean_and_std(values), strict=True)):
                own: Row = {"metric": metric, "network": network, "layer": layer}
                own |= {"task": column} if metric == "final/mu_norm" else {}
                yield from (
                    own | {"seed": seed, "value": value} for seed, value in zip(seeds, values[:, column], strict=True)
                )
                yield own | {"value": mean, "std": std, "runs": runs}
    for (network, layer), cosines in found.cosines.items():
        for m, k in zip(*np.triu_indices(len(cosines), 1), strict=True):
            own = {"metric": f"final/cosine_with_{k}", "network": network, "layer": layer, "task": int(m)}
            yield own | {"value": cosines[m, k], "runs": len(seeds)}


def _band_rows(band: Band) -> Iterator[Row]:
    own: Row = {"metric": band.metric, "network": band.network, "layer": band.layer, "task": band.task}
    names = ("x", "value", "std", "iqm", "low", "high", "runs")
    for row in zip(band.x, band.mean, band.std, band.iqm, band.low, band.high, band.runs, strict=True):
        yield own | dict(zip(names, row, strict=True))
