"""Everything that a report shows of a study, worked out once: scores, curves, comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.curves import (
    Band,
    Curve,
    bands,
    sharing_curves,
    task_curve,
    wall_time_curve,
    wall_time_sharing,
)
from varshare_pl.results.final_layers import FinalLayers
from varshare_pl.results.scores import (
    Difference,
    Estimate,
    MethodScores,
    across_suites,
    all_scores,
    improvements,
    profile,
    transfer,
)
from varshare_pl.results.statistics import Interval
from varshare_pl.results.study import Study, Suite
from varshare_pl.results.variant import Variant

Array = NDArray[np.float64]
KINDS = ("eval", "train")


@dataclass(frozen=True)
class SuiteResults:
    """The numbers of one suite, by method where there is one for each."""

    suite: Suite
    scores: list[MethodScores]
    bands: dict[str, list[Band]]  # over env steps
    layers: dict[str, FinalLayers]  # at the end
    seconds: dict[str, list[Band]]  # over wall time: of the returns shown, of sharing, norms and KLs
    improvements: dict[tuple[str, str], Difference]
    transfer: dict[str, list[Difference]]  # for each task, then their mean; empty without a reference
    profiles: dict[str, tuple[Array, Array, Array]]  # empty for a suite without scores

    @property
    def by_method(self) -> dict[str, MethodScores]:
        return {scores.variant.method: scores for scores in self.scores}

    @property
    def curve(self) -> str:
        """The metric of the main curves: scores, or returns of a suite without them."""
        return f"{self.suite.kind}/{self.suite.unit}"

    def pick(self, method: str, metric: str, seconds: bool = False) -> list[Band]:
        """The bands of a metric over env steps, or over seconds, in their order."""
        bands = self.seconds if seconds else self.bands
        return [band for band in bands.get(method, ()) if band.metric == metric]


@dataclass(frozen=True)
class Analysis:
    """All numbers of a study."""

    study: Study
    suites: list[SuiteResults]
    interval: Interval  # of IQMs
    overall: dict[str, Estimate]  # over all suites with scores, by method; empty if there are fewer than two


def analyse(study: Study, interval: Interval = "bootstrap") -> Analysis:
    """Work out all numbers of a study; the same files give the same numbers, bit for bit.

    Args:
        study: What was read.
        interval: Of IQMs: "bootstrap", its percentiles, or "t", which covers few runs as it says.
    """
    scores = all_scores(study, interval)
    suites = [_suite_results(study, suite, scores[suite.label], interval) for suite in study.suites]
    return Analysis(study, suites, interval, across_suites(study, scores, interval))


def _suite_results(study: Study, suite: Suite, scores: list[MethodScores], interval: Interval) -> SuiteResults:
    reference = {found.variant.method: found for found in scores}.get(study.reference or "")
    others = [found for found in scores if reference is not None and found is not reference]
    done = [found for found in scores if found.runs]
    return SuiteResults(
        suite,
        scores,
        {variant.method: _bands(suite, variant, interval) for variant in suite.started},
        {variant.method: FinalLayers.of(variant) for variant in suite.started},
        {variant.method: _over_seconds(suite, variant, interval) for variant in suite.started},
        improvements(suite, scores),
        {found.variant.method: rows for found in others if reference and (rows := transfer(suite, found, reference))},
        {found.variant.method: profile(suite, found) for found in done} if suite.scored else {},
    )


def _bands(suite: Suite, variant: Variant, interval: Interval) -> list[Band]:
    found, names = [], (interval, suite.label, variant.method)
    for kind in KINDS:
        for measure in dict.fromkeys(("return", suite.measure)):
            curve = task_curve(variant, kind, measure)
            found += bands(curve, *names)
        if suite.scored:
            found += bands(_scored(suite, curve), *names, tasks=False)
    for curve in sharing_curves(variant):
        found += bands(curve, *names)
    return found


def _over_seconds(suite: Suite, variant: Variant, interval: Interval) -> list[Band]:
    names = (interval, suite.label, variant.method, "seconds")
    curves = [_scored(suite, wall_time_curve(variant, suite.kind)), *wall_time_sharing(variant)]
    return [band for curve in curves for band in bands(curve, *names, tasks=False)]


def _scored(suite: Suite, curve: Curve) -> Curve:
    """The curve of what success is measured by in scores, if the suite has them and the runs have all its tasks."""
    if not suite.scored or curve.values.shape[2] != len(suite.names):
        return curve
    return Curve(curve.metric.replace(suite.measure, "score"), curve.x, suite.scores(curve.values), by_task=True)
