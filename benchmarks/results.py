"""What was measured: figures of every case in every round, with what they were measured on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Figures
from benchmarks.ratios import RATIOS, Ratio


@dataclass
class CaseResult:
    """The rounds of one case.

    Attributes:
        rounds: its figures in each round.
        reason: why there are none; empty otherwise.
        failed: it should have run.
    """

    rounds: list[Figures] = field(default_factory=list)
    reason: str = ""
    failed: bool = False

    def median(self, figure: str) -> float | None:
        """The median of a figure; None where it was not measured."""
        values = self.values(figure)
        return statistics.median(values) if values else None

    def values(self, figure: str) -> list[float]:
        if self.reason:
            return []
        return [figures[figure] for figures in self.rounds if figure in figures]


@dataclass
class Results:
    """A whole measurement.

    Attributes:
        facts: date, commit, machine and versions, from ``machine.facts``.
        cases: results by case.
        ratios: names of the ratios that were asked for.
    """

    facts: dict[str, Any]
    cases: dict[str, CaseResult]
    ratios: list[str]

    def asked(self) -> list[Ratio]:
        return [ratio for ratio in RATIOS if ratio.name in self.ratios]

    def values(self, ratio: Ratio) -> list[float]:
        """The ratio in each round; empty where a case of it has no figures."""
        found = [self.cases.get(name, CaseResult(reason="not measured")) for name in ratio.cases]
        if any(case.reason for case in found):
            return []
        return ratio.values(found[0].rounds, found[-1].rounds)

    def reason(self, ratio: Ratio) -> str:
        """Why a ratio has no values."""
        return next((c.reason for n in ratio.cases if (c := self.cases.get(n)) and c.reason), "not measured")

    def medians(self) -> dict[str, float]:
        """The median of every ratio that has values."""
        return {ratio.name: statistics.median(values) for ratio in self.asked() if (values := self.values(ratio))}

    def failed(self) -> list[str]:
        return [name for name, case in self.cases.items() if case.failed]

    def write(self, path: Path) -> None:
        """Write all as JSON, ratios worked out, so that others need not."""
        ratios = {ratio.name: _ratio_json(ratio, self.values(ratio)) for ratio in self.asked()}
        cases = {name: asdict(case) for name, case in self.cases.items()}
        path.write_text(json.dumps({**self.facts, "ratios": ratios, "cases": cases}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        content = json.loads(path.read_text(encoding="utf-8"))
        cases = {name: CaseResult(**case) for name, case in content.pop("cases").items()}
        ratios = list(content.pop("ratios"))
        return cls(content, cases, ratios)


def _ratio_json(ratio: Ratio, values: Sequence[float]) -> dict[str, Any]:
    content: dict[str, Any] = {"title": ratio.title, "bar": ratio.bar, "aim": ratio.aim, "at_most": ratio.most}
    content |= {"unit": ratio.unit, "values": list(values)}
    if values:
        content |= {"median": statistics.median(values), "met": ratio.met(values)}
    return content
