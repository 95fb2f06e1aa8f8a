"""The loop that brings a study's runs to their ends: who is next, who has ended, and how."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from varshare_pl.study.executor import Ended, Executor
from varshare_pl.study.folder import StudyFolder, last_words
from varshare_pl.study.runs import Run, State, locked, read_progress
from varshare_pl.study.view import Row, View

TICK = 0.2  # seconds between two looks at signals
REFRESH = 1.0  # seconds between two looks at files
BY_SIGNAL = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Ctrl-C and SIGTERM, remembered and not acted upon, while the ``with`` block lasts."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._receive) for number in BY_SIGNAL}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)


class Scheduler:
    """Runs that are planned, each started once a call and at most one process for each.

    Args:
        plan: Gives all runs that are known by now; asked again whenever one has ended.
        folder: Of the study.
        executor: Runs them.
        view: Shows how it goes.
        stop: Signals that ask for the end.
    """

    def __init__(
        self,
        plan: Callable[[], Sequence[Run]],
        folder: StudyFolder,
        executor: Executor,
        view: View,
        stop: StopSignals,
    ) -> None:
        self._plan, self._folder, self._executor, self._view, self._stop = plan, folder, executor, view, stop
        self._rows: dict[str, Row] = {}
        self._tried: set[str] = set()
        self._passed_on = 0  # signals
        self._looked_at = float("-inf")  # when the files were read last

    def run(self) -> dict[State, int]:
        """Go on until nothing is left to start and nothing runs; gives how many runs ended in which state."""
        self._take_in(self._plan())
        for run in self._executor.attach([row.run for row in self._rows.values()]):
            self._change(run, State.RUNNING)
        try:
            while True:
                self._pass_signals_on()
                self._look()
                self._start_next()
                if not self._with(State.RUNNING) and (self._stop.received or not self._with(State.LOCKED)):
                    return dict(Counter(row.state for row in self._rows.values()))
                ended = self._executor.wait(TICK)
                for one in ended:
                    self._end(one)
                if ended:
                    self._take_in(self._plan())
        finally:
            if self._with(State.RUNNING):
                self._executor.stop(signal.SIGTERM)

    def _take_in(self, runs: Sequence[Run]) -> None:
        for run in runs:
            if run.name not in self._rows:
                self._rows[run.name] = Row(run, self._folder.state(run), read_progress(run.folder))

    def _with(self, state: State) -> list[Row]:
        return [row for row in self._rows.values() if row.state is state]

    def _pass_signals_on(self) -> None:
        for number in self._stop.received[self._passed_on :]:
            self._passed_on += 1
            left = len(self._with(State.RUNNING))
            self._view.say(
                f"{signal.Signals(number).name}: stopping {left} run{'s' * (left != 1)} after the rollout under way; "
                "once more stops at once"
            )
            self._executor.stop(number)

    def _start_next(self) -> None:
        if self._stop.received:
            return
        free = self._executor.slots - len(self._with(State.RUNNING))
        chosen: list[Run] = []
        for row in self._rows.values():
            if len(chosen) >= free:
                break
            if row.state in (State.WAITING, State.INTERRUPTED) and row.run.name not in self._tried:
                if locked(row.run.folder):
                    self._change(row.run, State.LOCKED)
                else:
                    chosen.append(row.run)
        if chosen:
            self._executor.start(chosen)
        for run in chosen:
            self._tried.add(run.name)
            self._change(run, State.RUNNING)

    def _look(self) -> None:
        """Read how far the runs are, now and then, and whether another process has left one."""
        now = time.monotonic()
        if now - self._looked_at < REFRESH:
            return
        self._looked_at = now
        for row in [*self._with(State.RUNNING), *self._with(State.LOCKED)]:
            self._rows[row.run.name] = row._replace(progress=read_progress(row.run.folder))
        for row in self._with(State.LOCKED):
            if not locked(row.run.folder):
                self._change(row.run, self._folder.state(row.run))
        self._view.show(list(self._rows.values()))

    def _end(self, ended: Ended) -> None:
        run, code = ended.run, ended.exit_code
        by_signal = -code in BY_SIGNAL or code - 128 in BY_SIGNAL
        if run.finished:
            self._change(run, State.FINISHED)
        elif code != 0 and (by_signal or self._stop.received):
            self._change(run, State.INTERRUPTED if run.begun else State.WAITING)
        else:
            message = last_words(ended.log, code) if code else "ended without a summary"
            self._folder.record_failure(run, code, message, ended.log)
            self._change(run, State.FAILED, message)

    def _change(self, run: Run, state: State, message: str = "") -> None:
        row = Row(run, state, read_progress(run.folder), message)
        self._rows[run.name] = row
        self._view.change(row, list(self._rows.values()))
