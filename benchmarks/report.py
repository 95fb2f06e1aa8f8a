"""Results as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.cases import CPU_SPEED, SPEED, START, UPDATE
from benchmarks.ratios import Ratio
from benchmarks.results import Results


def report(results: Results) -> str:
    """Everything: what it was measured on, ratios, steps per second, compile times, all other figures."""
    parts = [heading(results), ratio_table(results, results.asked()), speed_table(results), compile_table(results)]
    return "\n\n".join(part for part in (*parts, other_table(results), note(results)) if part)


def heading(results: Results) -> str:
    """Machine, versions, commit and how it was measured, in two lines."""
    facts = results.facts
    machine, versions = facts["machine"], facts["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    pinned = "one thread on one core, two where it says processes" if facts.get("pinned") else "one thread a process"
    rounds = f"medians of {facts['rounds']} rounds (min–max)" if facts["rounds"] > 1 else "one round"
    brief = "" if facts.get("scale", 1) == 1 else f"; work × {facts['scale']:g}: figures to try the harness only"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['architecture']}; {packages}.  \n"
        f"Commit {facts['commit']}, {facts['date'][:10]}; {rounds}, {pinned}{brief}."
    )


def ratio_table(results: Results, ratios: Sequence[Ratio]) -> str:
    """Each ratio beside its bar and aim."""
    lines = ["| ratio | median | min–max | bar | aim | verdict |", "|---|---:|---:|---:|---:|---|"]
    for ratio in ratios:
        values = results.values(ratio)
        bar, aim = ratio.limit(ratio.bar), ratio.limit(ratio.aim)
        if values:
            shown = f"{ratio.text(statistics.median(values))} | {min_max([ratio.text(v) for v in sorted(values)])}"
            lines.append(f"| {ratio.title} | {shown} | {bar} | {aim} | {verdict(ratio, values)} |")
        else:
            lines.append(f"| {ratio.title} | – | – | {bar} | {aim} | {results.reason(ratio).partition(':')[0]} |")
    return "\n".join(lines)


def verdict(ratio: Ratio, values: Sequence[float]) -> str:
    """Whether the bar is met, as a word."""
    return {True: "met", False: "**missed**", None: ""}[ratio.met(values)]


def min_max(texts: Sequence[str]) -> str:
    """Least and most of sorted values, the unit once."""
    number, _, unit = texts[0].partition(" ")
    return f"{number}–{texts[-1]}" if unit else f"{texts[0]}–{texts[-1]}"


def speed_table(results: Results) -> str:
    """Steps per second of each case that has them."""
    lines = ["| case | env steps/s, median | min–max |", "|---|---:|---:|"]
    for name, case in results.cases.items():
        if values := case.values(SPEED):
            lines.append(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f}–{max(values):,.0f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def compile_table(results: Results) -> str:
    """Seconds until compiled loops run at full speed."""
    lines = ["| until the second rollout's end | first round, empty cache | later rounds |", "|---|---:|---:|"]
    for name, case in results.cases.items():
        if name.endswith("_compiled") and (values := case.values(START)):
            later = f"{statistics.median(values[1:]):.1f} s" if values[1:] else "–"
            lines.append(f"| {name} | {values[0]:.1f} s | {later} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def other_table(results: Results) -> str:
    """All figures but those of training loops: where a run's seconds go, memory, the machine's matrix product."""
    lines = ["| case | figure | median | min–max |", "|---|---|---:|---:|"]
    for name, case in results.cases.items():
        for figure in case.rounds[0] if case.rounds else ():
            if figure not in (SPEED, CPU_SPEED, START, UPDATE) and (values := case.values(figure)):
                median = f"{statistics.median(values):,.4g}"
                lines.append(f"| {name} | {figure} | {median} | {min(values):,.4g}–{max(values):,.4g} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def note(results: Results) -> str:
    """Why cases have no figures."""
    return "\n".join(f"- {name}: {case.reason}" for name, case in results.cases.items() if case.reason)
