"""``varshare report``: a study, the seeds of an experiment or a single run, as a page to read and as tables."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from varshare_pl.results.analysis import Analysis, analyse
from varshare_pl.results.document import Block, Heading, Hidden, Items, to_html, to_latex, to_markdown
from varshare_pl.results.figures import Figure, draw_figures
from varshare_pl.results.look import FORMATS, SCREEN, Look
from varshare_pl.results.numbers import COLUMNS, Row, cell, score_rows, timing_rows
from varshare_pl.results.protocol import gaps, protocol
from varshare_pl.results.statistics import Interval
from varshare_pl.results.study import read_study
from varshare_pl.results.table import text_table
from varshare_pl.results.tables import Table, answer_table, few_runs, suite_table, task_table

REPORT, FIGURES = "report", "figures"
PAGE, MARKDOWN, SCORES, TIMINGS, LATEX = "report.html", "report.md", "scores.csv", "timings.csv", "tables.tex"


@dataclass(frozen=True)
class Report:
    """What was written, and the text to print."""

    files: list[Path]
    text: str


def write_report(
    folder: Path | str, look: Look = SCREEN, kind: str = "svg", interval: Interval = "bootstrap"
) -> Report:
    """Write the report of a study, an experiment or a run into its folder ``report``.

    Files of an earlier report are replaced, or deleted if they would not be written again; others are left alone.
    Every standard deviation is over seeds, with n - 1.

    Args:
        folder: Of the study, the experiment or the run.
        look: Of the figures.
        kind: Of the files beside the figures' PNGs: "svg", "pdf", or "png" for none.
        interval: Of IQMs, as in ``analyse``.

    Raises:
        ConfigError: if the folder holds no runs, if runs that belong together differ in more than the seed, or if a
            file is spoilt.
    """
    study = read_study(folder)
    analysis = analyse(study, interval)
    target = study.folder / REPORT
    target.mkdir(exist_ok=True)
    stale = _earlier_figures(target)
    figures = draw_figures(analysis, target / FIGURES, look, kind)
    blocks = list(_blocks(analysis, figures, kind))
    tables = [block for block in blocks if isinstance(block, Table) and any(block.header) and block.rows]
    files = [
        _write(target / PAGE, to_html(f"Report: {study.name}", blocks, target)),
        _write(target / MARKDOWN, to_markdown(blocks, target)),
        _write(target / SCORES, _csv(score_rows(analysis))),
        _write(target / TIMINGS, _csv(timing_rows(analysis))),
        _write(target / LATEX, to_latex(tables)),
    ]
    kept = {figure.path.with_suffix(f".{kind}") for figure in figures for kind in ("png", figure.kind)}
    for image in {path.with_suffix(f".{kind}") for path in stale for kind in FORMATS} - kept:
        image.unlink(missing_ok=True)
    return Report(files, _text(analysis, tables))


def _blocks(analysis: Analysis, figures: list[Figure], kind: str) -> Iterator[Block]:
    """The page: what was compared, then the answer in a figure and a table, then the details of each suite."""
    study = analysis.study
    yield Heading(1, f"Report: {study.name}")
    yield Heading(2, "What was compared")
    yield Table("Protocol", ("", ""), protocol(study))
    notes = [*gaps(study), *few_runs(analysis)]
    if notes:
        yield Heading(3, "Gaps and notes")
        yield Items(notes)
    yield Heading(2, "Answer")
    yield from (figure for figure in figures if not figure.suite)
    yield answer_table(analysis)
    for results in analysis.suites:
        label = results.suite.label
        yield Heading(2, label)
        yield suite_table(analysis, results)
        own = [figure for figure in figures if figure.suite == label]
        yield from (figure for figure in own if not figure.folded)
        if len(results.suite.names) > 1 and any(found.runs for found in results.scores):
            yield Heading(3, f"Final {results.suite.measured_words} by task: {label}")
            yield task_table(study, results)
        folded = [figure for figure in own if figure.folded]
        if folded:
            yield Hidden(f"Layers and tasks of each method on {label}", folded)
    yield Heading(2, "Files")
    yield Items(
        [
            f"{SCORES}: every number behind the figures and tables",
            f"{TIMINGS}: what depends on the clock",
            f"{LATEX}: the tables for a paper",
            f"{FIGURES}/: every figure as {' and '.join(dict.fromkeys(('PNG', kind.upper())))}",
        ]
    )


def _text(analysis: Analysis, tables: list[Table]) -> str:
    """The answer for the terminal: of one method the tasks, of several the methods; then what is missing."""
    chosen = tables[:1] if len(analysis.study.variants) > 1 else tables[-1:]
    lines = []
    for table in chosen:
        lines += text_table([table.header, *table.rows], words=1, total=table.rows[-1][0] == "mean")
        lines.append(table.caption)
    if not any(found.runs for results in analysis.suites for found in results.scores):
        lines = ["no finished run, so no final scores"]
    return "\n".join([*lines, *gaps(analysis.study), *few_runs(analysis)])


def _earlier_figures(target: Path) -> set[Path]:
    """The figures that the page of an earlier report shows."""
    page = target / MARKDOWN
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    return {target / FIGURES / name for name in re.findall(rf"\]\({FIGURES}/([\w.+-]+\.png)\)", text)}


def _csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([cell(row.get(name)) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _write(path: Path, text: str) -> Path:
    """Write beside the file, then replace it: a reader never sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
