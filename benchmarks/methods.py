"""Speed of the sharing methods for the docs: a table beside the shared net, and cost against the number of tasks.

In processor time: one thread each, and there are too many cases to keep a machine quiet for.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import sections
from benchmarks.cases import CPU_SPEED, TASK_COUNTS, TASK_METHODS
from benchmarks.machine import ROOT
from benchmarks.report import heading, min_max, verdict
from benchmarks.results import CaseResult, Results

PAGE, CHART = ROOT / "docs" / "methods" / "index.md", ROOT / "docs" / "cost_against_tasks.png"
MARKER = "speed"
CHART_TEXT = "Cost of an env step against the number of tasks"


def write_page(results: Results, page: Path = PAGE, chart: Path = CHART) -> bool:
    """Put table and chart in place; gives whether any method was measured."""
    table = speed_table(results)
    if not table:
        return False
    image = f"![{CHART_TEXT}](../{chart.name})" if draw(results, chart) else ""
    sections.write(page, MARKER, "\n\n".join(part for part in (heading(results), table, image) if part))
    return True


def speed_table(results: Results) -> str:
    """Env steps per processor second of each method, and beside the shared net."""
    lines = [
        "| method | env steps / processor s | × shared | min–max | promised | verdict |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for ratio in results.asked():
        if ratio.group == "methods" and (values := results.values(ratio)):
            name = ratio.top.removeprefix("method_")
            speed = results.cases[ratio.top].median(CPU_SPEED)
            spread = min_max([ratio.text(value) for value in sorted(values)])
            shown = f"{speed:,.0f} | {ratio.text(statistics.median(values))} | {spread}"
            lines.append(f"| [{name}]({name}.md) | {shown} | {ratio.limit(ratio.bar)} | {verdict(ratio, values)} |")
    if len(lines) == 2:
        return ""
    lines.insert(2, f"| [shared](shared.md) | {results.cases['method_shared'].median(CPU_SPEED):,.0f} | 1 × | | | |")
    return "\n".join(lines)


def costs(results: Results, method: str) -> dict[int, float]:
    """Median microseconds of an env step by number of tasks, where measured."""
    found = {}
    for count in TASK_COUNTS:
        if speed := results.cases.get(f"tasks_{count}_{method}", CaseResult()).median(CPU_SPEED):
            found[count] = 1e6 / speed
    return found


def draw(results: Results, path: Path) -> bool:
    """A line for each method; gives whether there were any to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from varshare_pl.results.colors import COLORS

    lines = {method: found for method in TASK_METHODS if len(found := costs(results, method)) > 1}
    if not lines:
        return False
    figure = Figure(figsize=(7.2, 4.2), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (method, found), color, marker in zip(lines.items(), COLORS, "os^Dvp", strict=False):
        axes.plot(list(found), list(found.values()), color=color, marker=marker, label=method)
    axes.set_xscale("log")
    axes.set_xticks(TASK_COUNTS, [str(count) for count in TASK_COUNTS])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks M (100 envs, 12,800 rows a rollout, whatever M)")
    axes.set_ylabel("processor µs of training per env step")
    axes.set_title(CHART_TEXT, loc="left", fontsize=12, weight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return True
