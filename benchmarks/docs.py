"""What the docs say of speed: the page of it with its chart, and the methods' table."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import sections
from benchmarks.cases import SPEED, START
from benchmarks.machine import ROOT
from benchmarks.methods import write_page
from benchmarks.ratios import UsageError
from benchmarks.report import heading, min_max, verdict
from benchmarks.results import Results

PAGE, CHART = ROOT / "docs" / "speed.md", ROOT / "docs" / "speed.png"
MARKER = "speed"

# (what, sizes, Stable-Baselines3's case, ours, ours compiled)
LOOPS: tuple[tuple[str, str, str | None, str, str], ...] = (
    ("A: shared net, one CartPole", "8 envs × 256 steps, minibatch 64", "sb3_a", "shared_a", "shared_a_compiled"),
    ("B: shared net, one CartPole", "32 envs × 128 steps, minibatch 1,024", "sb3_b", "shared_b", "shared_b_compiled"),
    ("shared net, five CartPoles", "default config", None, "shared", "shared_compiled"),
    ("VarShare, five CartPoles", "default config", None, "varshare", "varshare_compiled"),
)
BARS = (("Stable-Baselines3", "#999999"), ("ours", "#0072B2"), ("ours, compiled", "#D55E00"))


def write_docs(results: Results) -> None:
    """Put into the docs what was measured: the page of speed, the methods' table, or both.

    Raises:
        UsageError: if the figures are those of a trial, or none is for the docs.
    """
    if results.facts.get("scale", 1) != 1:
        raise UsageError("figures of less work than usual are not for the docs")
    if not any([write_speed(results), write_page(results)]):
        raise UsageError("none of these figures is for the docs; those of rival, varshare and methods are")


def write_speed(results: Results, page: Path = PAGE, chart: Path = CHART) -> bool:
    """Put tables and chart in place; gives whether any training loop was measured.

    Raises:
        UsageError: if the page lacks the markers.
    """
    if not loop_table(results):
        return False
    drawn = draw(results, chart)
    sections.write(page, MARKER, section(results, chart.relative_to(page.parent).as_posix() if drawn else None))
    return True


def section(results: Results, chart: str | None) -> str:
    """What stands between the markers."""
    image = f"![Env steps per second of Stable-Baselines3 and ours]({chart})" if chart else ""
    parts = [image, heading(results), loop_table(results), compile_sentence(results), promise_table(results)]
    return "\n\n".join(part for part in parts if part)


def loop_table(results: Results) -> str:
    """Env steps per second of whole training loops."""
    lines = ["| training loop, env steps/s | Stable-Baselines3 (SB3) | ours | ours, compiled |", "|---|---:|---:|---:|"]
    for title, sizes, *cases in LOOPS:
        speeds = [_speed(results, name) for name in cases]
        if any(speeds):
            cells = " | ".join("–" if speed is None else f"{speed:,.0f}" for speed in speeds)
            lines.append(f"| {title}, {sizes} | {cells} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def promise_table(results: Results) -> str:
    """Every ratio with a bar that was measured, but for the methods', which have a table of their own."""
    lines = ["| ratio | median | min–max | promised | verdict |", "|---|---:|---:|---:|---|"]
    for ratio in results.asked():
        if ratio.group != "methods" and ratio.bar is not None and (values := results.values(ratio)):
            shown = f"{ratio.text(statistics.median(values))} | {min_max([ratio.text(v) for v in sorted(values)])}"
            lines.append(f"| {ratio.title} | {shown} | {ratio.limit(ratio.bar)} | {verdict(ratio, values)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def compile_sentence(results: Results) -> str:
    """What compiling costs before it pays."""
    starts = {name: case.values(START) for name, case in results.cases.items() if name.endswith("_compiled")}
    first = [values[0] for values in starts.values() if values]
    later = [statistics.median(values[1:]) for values in starts.values() if values[1:]]
    if not first:
        return ""
    text = f"Compiled loops reach the end of the second rollout after {_range(first)} the first time"
    return f"{text}, after {_range(later)} with the compiler's cache." if later else f"{text}."


def draw(results: Results, path: Path) -> bool:
    """Bars of env steps per second in settings A and B; gives whether there were any to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    beside = [loop for loop in LOOPS if loop[2] is not None]
    groups = [(title, sizes, [_bar(results, name, cases[0]) for name in cases]) for title, sizes, *cases in beside]
    groups = [group for group in groups if any(group[2])]
    if not groups:
        return False
    figure = Figure(figsize=(8.8, 0.75 + 1.42 * len(groups)), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.012, 0.985, "Training speed, env steps per second", va="top", fontsize=13, weight="bold")
    figure.text(0.012, 0.9, _caption(results), va="top", fontsize=9, color="#555555")
    largest = max(bar[2] for *_, bars in groups for bar in bars if bar)
    all_axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, (title, sizes, bars) in zip(all_axes, groups, strict=True):
        shown = [(name, color, bar) for (name, color), bar in zip(BARS, bars, strict=True) if bar]
        for row, (_, color, (low, median, high, times)) in enumerate(shown):
            axes.barh(row, median, height=0.68, color=color)
            axes.plot([low, high], [row, row], color="#222222", linewidth=1.2, solid_capstyle="butt")
            beaten = f"   {times:.1f} ×" if row and times else ""
            axes.text(high + 0.012 * largest, row, f"{median:,.0f}{beaten}", va="center", fontsize=10)
        axes.set_yticks(range(len(shown)), [name for name, *_ in shown], fontsize=10)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1.25 * largest)
        axes.set_title(f"{title}, {sizes}", fontsize=10.5, loc="left", pad=4)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set_color("#888888")
    figure.subplots_adjust(left=0.2, right=0.985, top=0.76, bottom=0.03, hspace=0.42)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return True


def _caption(results: Results) -> str:
    machine, rounds = results.facts["machine"]["cpu"], results.facts["rounds"]
    spread = f"; median of {rounds} rounds, line from min to max" if rounds > 1 else ""
    return f"PPO, tanh 2×64, 4 epochs; one thread, {machine}{spread}"


def _speed(results: Results, name: str | None) -> float | None:
    return results.cases[name].median(SPEED) if name in results.cases else None


def _bar(results: Results, name: str | None, rival: str | None) -> tuple[float, float, float, float | None] | None:
    """Least, median and most steps per second, and how many times the rival's, taken within a round."""
    values, others = (results.cases[n].values(SPEED) if n in results.cases else [] for n in (name, rival))
    if not values:
        return None
    times = statistics.median(a / b for a, b in zip(values, others, strict=True)) if others else None
    return min(values), statistics.median(values), max(values), times


def _range(seconds: list[float]) -> str:
    low, high = f"{min(seconds):.0f}", f"{max(seconds):.0f}"
    return f"{low} s" if low == high else f"{low} to {high} s"
