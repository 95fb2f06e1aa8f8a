"""The figures of a report: which there are, as images beside the page, or one of them to be shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from varshare_pl.results.analysis import Analysis, SuiteResults
from varshare_pl.results.colors import Style, method_styles
from varshare_pl.results.drawing import Figure as Drawn
from varshare_pl.results.images import Sheet, by_name, draw_one, write_images
from varshare_pl.results.lines import return_limits
from varshare_pl.results.look import SCREEN, Look
from varshare_pl.results.panels import (
    dot_panel,
    improvement_panel,
    profile_panel,
    solving_panel,
    transfer_panel,
)
from varshare_pl.results.scores import Solving
from varshare_pl.results.sharing_sheets import curve_sheets, energy_sheets, layer_sheets
from varshare_pl.results.sheets import methods_panel, panel_sheet
from varshare_pl.results.statistics import INTERVALS, Interval, average
from varshare_pl.results.style import LONGEST_LABEL, PANEL_HEIGHT, Panel
from varshare_pl.text import shortened

MOST_TASKS = 24  # panels of a sheet by task
SOLVING = "Env steps to solve: a ring a run, their median as a line; ▷ a run that ended unsolved."


@dataclass(frozen=True)
class Figure:
    """An image of a report; the same as a file of another kind may lie beside it."""

    path: Path
    kind: str  # "png" where it is alone
    title: str
    caption: str
    suite: str = ""  # "" where it is of all suites
    folded: bool = False  # whether it is a detail, shown when asked for


def draw_figures(analysis: Analysis, folder: Path, look: Look, kind: str) -> list[Figure]:
    """Draw every sheet for which there are numbers into a folder, as PNG and as files of that kind."""
    figures: list[Figure] = []
    for name, sheet in by_name([*_sheets(analysis)], look).items():
        path = write_images(sheet.draw(look), folder, name, kind)
        figures.append(Figure(path, kind, sheet.title, sheet.caption, sheet.suite, sheet.folded))
    return figures


def report_figure(analysis: Analysis, name: str, look: Look = SCREEN) -> Drawn:
    """One of the figures of a report by the name of its file, to be shown or changed.

    Raises:
        ConfigError: for a name that the report has no figure of.
    """
    return draw_one(name, by_name([*_sheets(analysis)], look), look)


def _sheets(analysis: Analysis) -> Iterator[Sheet]:
    study = analysis.study
    styles = method_styles({method: study.kind_of(method) for method in study.methods}, study.names, study.colors)
    yield from _answer(analysis, styles)
    yield from energy_sheets(analysis, styles)
    for results in analysis.suites:
        yield from _curves(results, styles, analysis.interval)
        yield from _by_task(results, styles)
        yield from _comparison(results, styles)
        yield from _transfer(analysis, results, styles)
        yield from curve_sheets(results, styles)
        yield from layer_sheets(results, styles)


def _answer(analysis: Analysis, styles: dict[str, Style]) -> Iterator[Sheet]:
    """The final scores of all methods on all suites, and how fast they were solved."""
    methods = analysis.study.methods
    columns = min(3, len(analysis.suites))
    finals: list[Panel] = []
    solving: list[Panel] = []
    for results in analysis.suites:
        done = {found.variant.method: found for found in results.scores if found.runs}
        finals.append(
            dot_panel(
                results.suite.label,
                results.suite.unit,
                methods,
                styles,
                {method: found.overall for method, found in done.items()},
                {method: average(found.scores, axis=1) for method, found in done.items()},
            )
        )
        solved = {method: found.solving for method, found in done.items() if found.solving is not None}
        if solved:
            solving.append(_solving_panel(f"{results.suite.label} (runs solved)", results, solved, styles))
    if not any(found.runs for results in analysis.suites for found in results.scores):
        return
    caption = (
        "Final deterministic evaluation. Diamond and bar: IQM over runs and tasks with its "
        f"{INTERVALS[analysis.interval]}, where IQM is the mean of the middle half; "
        "rings: each run's mean over tasks. Score: "
        f"{'; '.join(dict.fromkeys(results.suite.score_words for results in analysis.suites))}."
    )
    height = 0.55 + 0.24 * len(methods)
    yield from panel_sheet("answer", "Final scores", finals, columns, caption, height=height)
    if len(solving) > 1:  # of one suite they stand beside its curves
        yield from panel_sheet("solving", "Env steps to solve", solving, 2, SOLVING, height=height)


def _curves(results: SuiteResults, styles: dict[str, Style], interval: Interval) -> Iterator[Sheet]:
    suite = results.suite
    what = "Evaluation" if suite.kind == "eval" else "Training"
    panels = [
        *(
            methods_panel(results, styles, f"{suite.kind}/{name}", f"{what}: mean ± std", name, "mean")
            for name in dict.fromkeys((suite.measure, "return"))
        ),
        methods_panel(results, styles, results.curve, f"{what}: IQM, 95 % interval", suite.unit, "iqm"),
        methods_panel(results, styles, results.curve, f"{what}: IQM over wall time", suite.unit, "iqm", seconds=True),
    ]
    solving = {found.variant.method: found.solving for found in results.scores if found.solving is not None}
    if solving:
        panels.append(_solving_panel("Env steps to solve (runs solved)", results, solving, styles))
    caption = (
        f"Mean over tasks; bands: ± 1 standard deviation over seeds (n − 1), or the {INTERVALS[interval]} of the IQM "
        "over runs and tasks. Thin: not all runs have come so far."
    )
    if any(variant.ended_solved(run) for variant in suite.started for run in variant.runs):
        caption += " A run that ended once solved counts on with its last values."
    if solving:
        caption += f" {SOLVING}"
    title = f"{suite.measured_words.capitalize()}: {suite.label}"
    yield from panel_sheet(f"curves_{suite.label}", title, panels, 2, caption, suite.label)


def _by_task(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    suite, metric = results.suite, f"{results.suite.kind}/{results.suite.measure}"
    if len(suite.names) < 2:
        return
    found = [band for method in results.bands for band in results.pick(method, metric) if band.task is not None]
    reach = [band.mean + sign * np.nan_to_num(band.std) for band in found for sign in (-1, 1)]
    limits = return_limits(np.concatenate([*reach, np.zeros(0)]), suite.info.solved)  # all panels alike
    panels = [
        methods_panel(
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
    yield from panel_sheet(f"tasks_{suite.label}", title, panels, 3, caption, suite.label)


def _comparison(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    suite = results.suite
    methods = [found.variant.method for found in results.scores if found.runs]
    panels = []
    if results.profiles:
        panels.append(profile_panel(results.profiles, styles))
    if results.improvements:
        panels.append(improvement_panel(methods, results.improvements, styles))
    if len(methods) > 1:
        caption = (
            "Profile: share of runs and tasks whose final score is above the threshold, with its 95 % bootstrap "
            "interval. Matrix: the probability that a run of the method on the left scores higher than one of the "
            "method above, mean over tasks; bold where its 95 % interval leaves out 0.5."
        )
        height = max(PANEL_HEIGHT, 0.6 + 0.3 * len(methods))
        name, title = f"comparison_{suite.label}", f"Comparison: {suite.label}"
        yield from panel_sheet(name, title, panels, 2, caption, suite.label, height=height)


def _transfer(analysis: Analysis, results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    if results.transfer:
        suite, reference = results.suite, analysis.study.shown(analysis.study.reference or "")
        panel = transfer_panel(results.transfer, [*suite.names, "mean"], styles, suite.unit)
        caption = (
            f"Mean final {suite.unit} less that of {reference} on the same task after the same env steps, with its "
            "95 % bootstrap interval; right of 0: training together helped."
        )
        height = 0.5 + 0.14 * (len(results.transfer) + 1) * (len(suite.names) + 1)
        name, title = f"transfer_{suite.label}", f"Transfer: {suite.label}"
        yield from panel_sheet(name, title, [panel], 1, caption, suite.label, height=height)


def _solving_panel(title: str, results: SuiteResults, solving: dict[str, Solving], styles: dict[str, Style]) -> Panel:
    return solving_panel(title, solving, styles, max(variant.length or 0 for variant in results.suite.started))
