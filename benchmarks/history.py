"""Recorded ratios, one line of JSON each, and the comparison with them.

Ratios within a round stay much the same from machine to machine and hour to hour; steps per second do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ratios import RATIOS, UsageError
from benchmarks.results import Results

HISTORY = Path(__file__).with_name("history.jsonl")
TOLERANCE = 0.15


@dataclass(frozen=True)
class Change:
    """A ratio now beside the recorded one.

    Attributes:
        name: of the ratio.
        before: recorded.
        now: measured.
        worse: by which share it got worse; negative where it got better.
    """

    name: str
    before: float
    now: float
    worse: float


def line(results: Results) -> dict[str, Any]:
    """What is recorded of results."""
    facts = {key: results.facts[key] for key in ("date", "commit", "machine", "versions")}
    return facts | {"ratios": {name: round(value, 4) for name, value in results.medians().items()}}


def append(path: Path, results: Results) -> None:
    """Add a line to a history.

    Raises:
        UsageError: if the figures are those of a trial.
    """
    if results.facts.get("scale", 1) != 1:
        raise UsageError("figures of less work than usual are not recorded")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line(results)) + "\n")


def recorded(path: Path) -> dict[str, float]:
    """The newest value of every ratio: mostly those of the last line, which may hold only some."""
    if not path.exists():
        return {}
    newest: dict[str, float] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        if text.strip():
            newest |= json.loads(text)["ratios"]
    return newest


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> list[Change]:
    """Every ratio that is in both, with how much worse it got."""
    most = {ratio.name: ratio.most for ratio in RATIOS}
    changes = []
    for name in now:
        if name in before and name in most:
            share = now[name] / before[name] - 1.0
            changes.append(Change(name, before[name], now[name], share if most[name] else -share))
    return changes


def comparison_table(changes: list[Change], tolerance: float) -> str:
    """The changes, those beyond the tolerance marked."""
    lines = ["| ratio | recorded | now | |", "|---|---:|---:|---|"]
    for change in changes:
        mark = f"**worse by {change.worse:.0%}**" if change.worse > tolerance else "as before or better"
        lines.append(f"| {change.name} | {change.before:.2f} | {change.now:.2f} | {mark} |")
    return "\n".join(lines)
