"""What is promised of speed: ratios of figures of the same round, with the bar that each is to reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import CPU_SPEED, METHODS, MILLIONS, PHYSICS, SPEED, TASK_COUNTS, TASK_METHODS, Figures

Unit = Literal["×", "%", "s", "MB", "µs", "M/s"]


class UsageError(Exception):
    """What was asked for cannot be done; one line says why."""


@dataclass(frozen=True)
class Ratio:
    """A figure of one case over that of another, or a figure that stands for itself.

    Attributes:
        name: short, for ``--only`` and the history.
        group: of ratios, for ``--only``.
        title: in tables.
        top: the case above the line.
        bottom: the case below; None: the figure of ``top`` alone.
        figure: name of the figure.
        bar: what it is to reach; None: shown without a promise.
        aim: what we would like.
        most: the bar is an upper limit.
        unit: how it is shown.
        quick: compared by ``check``.
    """

    name: str
    group: str
    title: str
    top: str
    bottom: str | None
    figure: str = SPEED
    bar: float | None = None
    aim: float | None = None
    most: bool = False
    unit: Unit = "×"
    quick: bool = False

    @property
    def cases(self) -> list[str]:
        return [self.top] if self.bottom is None else [self.top, self.bottom]

    def values(self, tops: Sequence[Figures], bottoms: Sequence[Figures]) -> list[float]:
        """The ratio in each round, from the rounds' figures of the two cases."""
        above = [figures[self.figure] for figures in tops]
        if self.bottom is None:
            return above
        return [a / figures[self.figure] for a, figures in zip(above, bottoms, strict=True)]

    def met(self, values: Sequence[float]) -> bool | None:
        """Whether the median reaches the bar; None without one."""
        if self.bar is None:
            return None
        median = statistics.median(values)
        return median <= self.bar if self.most else median >= self.bar

    def text(self, value: float) -> str:
        """A value as shown."""
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        if self.unit == "×":
            return f"{value:.2f} ×"
        return f"{value:.0f} MB" if self.unit == "MB" else f"{value:.1f} {self.unit}"

    def limit(self, value: float | None) -> str:
        """A bar or an aim as shown."""
        if value is None:
            return ""
        number = f"{100 * value:g}" if self.unit == "%" else f"{value:g}"
        return f"{'≤' if self.most else '≥'} {number} {self.unit}"


_A, _B = "8 envs × 256, minibatch 64", "32 envs × 128, minibatch 1,024"

RATIOS: tuple[Ratio, ...] = (
    Ratio("eager_a", "rival", f"shared net / SB3, {_A}", "shared_a", "sb3_a", bar=2.7, aim=4.0, quick=True),
    Ratio(
        "compiled_a",
        "rival",
        f"shared net, compiled / SB3, {_A}",
        "shared_a_compiled",
        "sb3_a",
        bar=8.0,
        aim=23.0,
        quick=True,
    ),
    Ratio("eager_b", "rival", f"shared net / SB3, {_B}", "shared_b", "sb3_b", bar=2.2, aim=3.0, quick=True),
    Ratio(
        "compiled_b",
        "rival",
        f"shared net, compiled / SB3, {_B}",
        "shared_b_compiled",
        "sb3_b",
        bar=4.5,
        aim=6.7,
        quick=True,
    ),
    Ratio("varshare_rival", "rival", "VarShare, 5 tasks / SB3, one task", "varshare", "sb3_b", bar=0.95),
    Ratio(
        "varshare_shared",
        "varshare",
        "VarShare / shared net, 5 tasks",
        "varshare",
        "shared",
        bar=0.65,
        aim=0.8,
        quick=True,
    ),
    Ratio(
        "varshare_shared_compiled",
        "varshare",
        "VarShare / shared net, 5 tasks, both compiled",
        "varshare_compiled",
        "shared_compiled",
        bar=0.65,
        aim=0.8,
    ),
    Ratio(
        "lightning",
        "lightning",
        "the same functions without Lightning / with it",
        "varshare_bare",
        "varshare",
        bar=1.08,
        most=True,
        quick=True,
    ),
    Ratio(
        "env_vector",
        "envs",
        "batched env / Gymnasium's CartPoleVectorEnv, 64 envs",
        "env_batched",
        "env_gymnasium_vector",
        bar=1.0,
        aim=3.0,
        quick=True,
    ),
    Ratio(
        "env_sync",
        "envs",
        "batched env / Gymnasium's SyncVectorEnv, 64 envs",
        "env_batched",
        "env_gymnasium_sync",
        bar=10.0,
    ),
    *(
        Ratio(
            f"physics_{name}",
            "physics",
            f"physics of {suite} alone, 256 envs, env steps",
            f"physics_{name}",
            None,
            MILLIONS,
            bar=2.0,
            unit="M/s",
        )
        for name, suite in PHYSICS.items()
    ),
    *(
        Ratio(f"workers_{env}", "workers", f"{words} / two alone", f"workers_{env}", None, "of_ideal", bar=0.9)
        for env, words in (
            ("busy", "2 workers with 40 envs of 150 µs a step"),
            ("cheetah", "2 workers with 40 HalfCheetahs"),
        )
    ),
    Ratio(
        "workers_overhead",
        "workers",
        "microseconds that workers add to an env step",
        "workers_idle",
        None,
        "overhead_us",
        bar=10.0,
        most=True,
        unit="µs",
    ),
    *(
        Ratio(
            f"method_{method}",
            "methods",
            f"{method} / shared net, 5 tasks",
            f"method_{method}",
            "method_shared",
            CPU_SPEED,
            bar=0.15,
        )
        for method in METHODS
        if method != "shared"
    ),
    *(
        Ratio(
            "tasks" if (method, count) == ("varshare", 50) else f"tasks_{count}_{method}",
            "tasks",
            f"cost of an env step, {method}, {count} tasks / 5 tasks",
            f"tasks_5_{method}",
            f"tasks_{count}_{method}",
            CPU_SPEED,
            bar=3.0 if (method, count) == ("varshare", 50) else None,
            most=True,
        )
        for method in TASK_METHODS
        for count in TASK_COUNTS[1:]
    ),
    *(
        Ratio(
            f"gemm_{width}{'_compiled' * compiled}",
            "gemm",
            f"share of the machine's matrix product, width {width}{', compiled' * compiled}",
            f"gemm_{width}{'_compiled' * compiled}",
            None,
            "gemm_share",
            bar=0.5 if compiled and width == 256 else None,
            unit="%",
        )
        for compiled in (False, True)
        for width in (64, 128, 256)
    ),
    *(
        Ratio(name, "processes", f"{what}, {sizes}", f"{setting}_{way}", f"{setting}_one", bar=bar)
        for setting, sizes, promised in (
            ("processes", "40 envs, width 64", 1.2),
            ("processes_wide", "512 envs, width 256", 1.6),
        )
        for name, what, way, bar in (
            (setting, "two processes / one", "two", promised),
            (f"{setting}_limit", "two runs at once / one: what the cores allow", "side_by_side", None),
        )
    ),
    *(
        Ratio(name, "callbacks", title, name, None, "share", bar=0.05, most=True, unit="%")
        for name, title in (
            ("callbacks", "heartbeat and loggers in the training loop"),
            ("callbacks_csv", "the same with --logger csv"),
        )
    ),
    Ratio(
        "study",
        "study",
        "twenty runs as a study with two workers / half the sum of single ones",
        "study",
        None,
        "share",
        bar=1.1,
        most=True,
    ),
    Ratio(
        "demo_seconds",
        "demo",
        "the demo's training command",
        "demo",
        None,
        "seconds",
        bar=14.0,
        aim=10.0,
        most=True,
        unit="s",
    ),
    Ratio("demo_memory", "demo", "its peak memory", "demo", None, "peak_mb", bar=600.0, most=True, unit="MB"),
    Ratio(
        "memory_flat",
        "demo",
        "peak memory of 500,000 env steps / 50,000",
        "memory_long",
        "memory_short",
        "peak_mb",
        bar=1.05,
        most=True,
    ),
)


def select(names: Sequence[str] | None) -> list[Ratio]:
    """The ratios of these names or groups, in their order here; all without names.

    Raises:
        UsageError: for a name that neither a ratio nor a group has.
    """
    if not names:
        return list(RATIOS)
    known = {ratio.name for ratio in RATIOS} | {ratio.group for ratio in RATIOS}
    if unknown := sorted(set(names) - known):
        groups = ", ".join(dict.fromkeys(ratio.group for ratio in RATIOS))
        every = ", ".join(ratio.name for ratio in RATIOS)
        raise UsageError(f"{', '.join(unknown)}: unknown; groups are {groups}; ratios are {every}")
    return [ratio for ratio in RATIOS if ratio.name in names or ratio.group in names]
