"""What is drawn on each sheet of a report, and which sheets there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from varshare_pl.results.analysis import Analysis, SuiteResults
from varshare_pl.results.curves import SHARING
from varshare_pl.results.lines import return_limits
from varshare_pl.results.panels import (
    band_panel,
    dot_panel,
    improvement_panel,
    profile_panel,
    solving_panel,
    transfer_panel,
)
from varshare_pl.results.scores import Solving
from varshare_pl.results.statistics import average
from varshare_pl.results.style import (
    ENV_STEPS,
    LONGEST_LABEL,
    PANEL_HEIGHT,
    Panel,
    Style,
    layer_styles,
    method_styles,
    task_colors,
)
from varshare_pl.text import shortened

MOST_TASKS = 24  # panels of a sheet by task
SECONDS = "seconds of training"
SOLVING = "Env steps to solve: a dot a run, their median as a line; ▷ a run that ended unsolved."
LABELS = {
    "sharing/ratio": ("Sharing ratio", "1: all shared"),
    "sharing/theta_norm": ("Norm of the shared weights", "‖θ̄‖"),
    "sharing/mu_norm": ("Norm of the task weights", "‖μ̃ₘ‖"),
    "kl/posterior": ("KL of posterior from prior", "nats"),
    "kl/policy": ("KL of old from new policy", "nats"),
}


@dataclass(frozen=True)
class Sheet:
    """The panels of one image, with its title and caption, and the suite that it is of; "" where it is of all."""

    name: str
    title: str
    panels: list[Panel]
    columns: int
    caption: str
    height: float = PANEL_HEIGHT
    suite: str = ""
    folded: bool = False


def sheets(analysis: Analysis) -> Iterator[Sheet]:
    styles = method_styles(analysis.study.methods)
    yield from _answer(analysis, styles)
    for results in analysis.suites:
        yield from _curves(results, styles)
        yield from _by_task(results, styles)
        yield from _comparison(results, styles)
        yield from _transfer(analysis, results, styles)
        yield from _sharing(results, styles)
        yield from _layers(results)


def _answer(analysis: Analysis, styles: dict[str, Style]) -> Iterator[Sheet]:
    """The final scores of all methods on all suites, and how fast they were solved."""
    methods = analysis.study.methods
    columns = min(3, len(analysis.suites))
    finals: list[Panel] = []
    solving: list[Panel] = []
    for number, results in enumerate(analysis.suites):
        done = {found.variant.method: found for found in results.scores if found.runs}
        labelled = number % columns == 0
        finals.append(
            dot_panel(
                results.suite.label,
                results.suite.unit,
                methods,
                styles,
                {method: found.overall for method, found in done.items()},
                {method: average(found.scores, axis=1) for method, found in done.items()},
                labelled,
            )
        )
        solved = {method: found.solving for method, found in done.items() if found.solving is not None}
        if solved:
            solving.append(_solving_panel(f"{results.suite.label} (runs solved)", results, solved, styles))
    if not any(found.runs for results in analysis.suites for found in results.scores):
        return
    caption = (
        "Final deterministic evaluation. Diamond and bar: IQM over runs and tasks with its 95 % bootstrap "
        "interval, where IQM is the mean of the middle half; dots: each run's mean over tasks. Score: "
        f"{'; '.join(dict.fromkeys(results.suite.score_words for results in analysis.suites))}."
    )
    height = 0.55 + 0.24 * len(methods)
    yield Sheet("answer", "Final scores", finals, columns, caption, height)
    if len(solving) > 1:  # of one suite they stand beside its curves
        yield Sheet("solving", "Env steps to solve", solving, min(2, len(solving)), SOLVING, height)


def _curves(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    suite = results.suite
    what = "Evaluation" if suite.kind == "eval" else "Training"
    panels = [
        *(
            _methods_panel(results, styles, f"{suite.kind}/{name}", f"{what}: mean ± std", name, "mean")
            for name in dict.fromkeys((suite.measure, "return"))
        ),
        _methods_panel(results, styles, results.curve, f"{what}: IQM, 95 % interval", suite.unit, "iqm"),
        _methods_panel(results, styles, results.curve, f"{what}: IQM over wall time", suite.unit, "iqm", seconds=True),
    ]
    solving = {found.variant.method: found.solving for found in results.scores if found.solving is not None}
    if solving:
        panels.append(_solving_panel("Env steps to solve (runs solved)", results, solving, styles))
    caption = (
        "Mean over tasks; bands: ± 1 standard deviation over seeds (n − 1), or the 95 % bootstrap interval of the IQM "
        "over runs and tasks. Thin: not all runs have come so far."
    )
    if any(variant.ended_solved(run) for variant in suite.started for run in variant.runs):
        caption += " A run that ended once solved counts on with its last values."
    if solving:
        caption += f" {SOLVING}"
    title = f"{suite.measured_words.capitalize()}: {suite.label}"
    yield from _sheet(f"curves_{suite.label}", title, panels, 2, caption, suite.label)


def _by_task(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    suite, metric = results.suite, f"{results.suite.kind}/{results.suite.measure}"
    if len(suite.names) < 2:
        return
    found = [band for method in results.bands for band in results.pick(method, metric) if band.task is not None]
    reach = [band.mean + sign * np.nan_to_num(band.std) for band in found for sign in (-1, 1)]
    limits = return_limits(np.concatenate([*reach, np.zeros(0)]), suite.info.solved)  # all panels alike
    panels = [
        _methods_panel(
            results,
            styles,
            metric,
            f"{m}: {shortened(name, LONGEST_LABEL)}",
            suite.measure,
            "mean",
            task=m,
            limits=limits,
        )
        for m, name in enumerate(suite.names[:MOST_TASKS])
    ]
    more = "" if len(suite.names) <= MOST_TASKS else f" The first {MOST_TASKS} of {len(suite.names)} tasks."
    what = suite.measured_words
    caption = f"{'Evaluation' if suite.kind == 'eval' else 'Training'} {what}: mean ± std over seeds.{more}"
    title = f"{what.capitalize()} by task: {suite.label}"
    yield from _sheet(f"tasks_{suite.label}", title, panels, 3, caption, suite.label)


def _comparison(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    suite = results.suite
    methods = [found.variant.method for found in results.scores if found.runs]
    panels = []
    if results.profiles:
        panels.append(profile_panel(results.profiles, styles))
    if results.improvements:
        panels.append(improvement_panel(methods, results.improvements))
    if len(methods) > 1:
        caption = (
            "Profile: share of runs and tasks whose final score is above the threshold, with its 95 % bootstrap "
            "interval. Matrix: the probability that a run of the method on the left scores higher than one of the "
            "method above, mean over tasks; bold where its 95 % interval leaves out 0.5."
        )
        height = max(PANEL_HEIGHT, 0.6 + 0.3 * len(methods))
        yield Sheet(f"comparison_{suite.label}", f"Comparison: {suite.label}", panels, 2, caption, height, suite.label)


def _transfer(analysis: Analysis, results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    if results.transfer:
        suite, reference = results.suite, analysis.study.reference
        panel = transfer_panel(results.transfer, [*suite.names, "mean"], styles, suite.unit)
        caption = (
            f"Mean final {suite.unit} less that of {reference} on the same task after the same env steps, with its "
            "95 % bootstrap interval; right of 0: training together helped."
        )
        height = 0.5 + 0.14 * (len(results.transfer) + 1) * (len(suite.names) + 1)
        yield Sheet(f"transfer_{suite.label}", f"Transfer: {suite.label}", [panel], 1, caption, height, suite.label)


def _sharing(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    label = results.suite.label
    of = "Mean over networks, layers and tasks; "
    mean, interval = "line and band: mean ± std over seeds.", "line and band: IQM over seeds with its 95 % interval."
    for name, title, centre, seconds, caption in (
        ("sharing", "Sharing, norms and KL", "mean", False, of + mean),
        ("sharing_iqm", "Sharing, norms and KL, IQM", "iqm", False, of + interval),
        ("sharing_seconds", "Sharing, norms and KL over wall time", "iqm", True, of + interval),
    ):
        panels = [
            _methods_panel(results, styles, metric, *LABELS[metric], centre, seconds=seconds) for metric in SHARING
        ]
        yield from _sheet(f"{name}_{label}", f"{title}: {label}", panels, 3, caption, label, folded=name != "sharing")


def _layers(results: SuiteResults) -> Iterator[Sheet]:
    """Sharing of each layer and task, a sheet for each method that has any."""
    suite = results.suite
    for method, bands in results.bands.items():
        panels = []
        for metric in ("sharing/ratio", "sharing/mu_norm"):
            for network in ("actor", "critic"):
                found = [band for band in bands if (band.metric, band.network) == (metric, network)]
                looks = layer_styles([band.layer for band in found])
                lines = [(b.layer.replace("_", " "), look, b) for b, look in zip(found, looks, strict=True)]
                title, ylabel = LABELS[metric]
                panels.append(band_panel(f"{network.capitalize()}: {title.lower()}", ylabel, lines, "mean", "Layer"))
        for metric in ("sharing/ratio", "kl/posterior"):
            found = [band for band in bands if band.metric == f"{metric}_by_task" and band.task is not None]
            colors = task_colors(len(suite.names))
            lines = [(suite.names[b.task], (colors[b.task], "-"), b) for b in found if b.task is not None]
            title, ylabel = LABELS[metric]
            panels.append(band_panel(f"{title}, by task", ylabel, lines, "mean", "Task"))
        caption = "Mean ± std over seeds; by layer: mean over tasks; by task: ratio, mean over layers; KL, their sum."
        title = f"Layers and tasks: {method} on {suite.label}"
        order = [panels[i] for i in (0, 1, 4, 2, 3, 5)]
        yield from _sheet(f"layers_{suite.label}_{method}", title, order, 3, caption, suite.label, folded=True)


def _solving_panel(title: str, results: SuiteResults, solving: dict[str, Solving], styles: dict[str, Style]) -> Panel:
    return solving_panel(title, solving, styles, max(variant.length or 0 for variant in results.suite.started))


def _methods_panel(
    results: SuiteResults,
    styles: dict[str, Style],
    metric: str,
    title: str,
    ylabel: str,
    centre: str,
    task: int | None = None,
    limits: tuple[float, float] | None = None,
    seconds: bool = False,
) -> Panel | None:
    """A line for each method that has the metric, of whole networks."""
    lines = [
        (method, styles[method], band)
        for method in results.bands
        for band in results.pick(method, metric, seconds)
        if band.task == task and not band.network
    ]
    suite = results.suite
    solved = suite.info.solved if metric.endswith(f"/{suite.measure}") else None
    xlabel = SECONDS if seconds else ENV_STEPS
    return band_panel(title, ylabel, lines, centre, xlabel=xlabel, solved=solved, limits=limits)


def _sheet(
    name: str, title: str, panels: Sequence[Panel | None], columns: int, caption: str, suite: str, folded: bool = False
) -> Iterator[Sheet]:
    drawn = [panel for panel in panels if panel is not None]
    if drawn:
        yield Sheet(name, title, drawn, columns, caption, suite=suite, folded=folded)
