"""What a study shows: the table in a terminal, lines elsewhere, and what it reads of a run under way."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest
import small

from varshare_pl.study.runs import Progress, Run, State, read_progress
from varshare_pl.study.view import LineView, Row, TableView, table

HEADER = "env_steps,wall_time_s,train/return_mean,eval/return_mean\n"


def test_progress_is_the_newest_whole_row(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == Progress()
    heartbeat = tmp_path / "heartbeat.csv"
    heartbeat.write_text(HEADER)
    assert read_progress(tmp_path) == Progress()
    heartbeat.write_text(HEADER + "160,0.5,,\n320,1,20.5,\n480,1.5,,3\n640,2.")
    progress = read_progress(tmp_path)
    assert progress == Progress(480, 20.5, 1.5)  # no episode ended in the last rollout: the return before it
    assert progress.time_left(960) == 1.5
    heartbeat.write_text(HEADER + "".join(f"{i},{i / 100},{i + 0.5},\n" for i in range(1, 5000)))
    assert read_progress(tmp_path) == Progress(4999, 4999.5, 49.99)


@pytest.mark.parametrize("tasks", [800, 3000])
def test_progress_with_many_tasks(tasks: int, tmp_path: Path) -> None:
    columns = ["env_steps", "wall_time_s", "train/return_mean", *(f"train/return_task_{m}" for m in range(tasks))]
    values = ["-1.2345678901234567e-05"] * tasks
    with (tmp_path / "heartbeat.csv").open("w") as table:
        table.write(",".join(columns) + "\n")
        for i in range(1, 30):
            table.write(",".join([str(i), str(i / 10), f"{i}.5", *values]) + "\n")
    assert read_progress(tmp_path) == Progress(29, 29.5, 2.9)


def rows() -> list[Row]:
    def run(name: str) -> Run:
        return Run(name, Path("logs") / name, ("fit",), 1000)

    return [
        Row(run("a__seed_1"), State.FINISHED, Progress(1000, 400.25, 9.0)),
        Row(run("b__seed_1"), State.RUNNING, Progress(250, 20.0, 30.0)),
        Row(run("c__seed_1"), State.FAILED, Progress(), "the simulator is gone"),
        Row(run("d__seed_1"), State.WAITING, Progress()),
    ]


def test_the_table() -> None:
    lines = [re.sub(" +", " ", line) for line in table(rows(), 10, 125.0)]
    assert lines[0] == "run state env steps return time left"
    assert lines[2:6] == [
        "b__seed_1 running 250 / 1,000 20.0 1:30",
        "c__seed_1 failed 0 / 1,000",
        "d__seed_1 waiting 0 / 1,000",
        "a__seed_1 finished 1,000 / 1,000 400.2",
    ]
    assert lines[-1] == "all 4 runs 1,250 / 4,000 2:05"
    short = [re.sub(" +", " ", line) for line in table(rows(), 2, None)]
    assert [line.split()[0] for line in short[2:4]] == ["b__seed_1", "c__seed_1"]
    assert short[-1] == "all 4 runs (2 not shown) 1,250 / 4,000"


def test_the_table_is_drawn_over_itself() -> None:
    out = io.StringIO()
    view = TableView(out)
    view.show(rows())
    first = out.getvalue()
    assert first.startswith("\x1b[J")
    assert first.endswith("1 running, 1 failed, 1 waiting, 1 finished\n")
    view.show(rows())
    assert out.getvalue()[len(first) :].startswith(f"\x1b[{first.count(chr(10))}F\x1b[J")


def test_a_line_per_change() -> None:
    out = io.StringIO()
    view = LineView(out)
    view.show(rows())
    assert out.getvalue() == ""
    for row in rows()[:3]:
        view.change(row, rows())
    assert out.getvalue().splitlines() == [
        "[1/4] finished    a__seed_1 at 1,000 env steps return 400.2",
        "[1/4] running     b__seed_1 at 250 env steps return 20.0",
        "[1/4] failed      c__seed_1: the simulator is gone",
    ]


def test_a_terminal_shows_the_table(tmp_path: Path) -> None:
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"})
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    shown = b""
    with small.started(tmp_path, stdout=theirs, stderr=theirs, text=False) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way of telling that nobody writes any more
                break
            if not part:
                break
            shown += part
        assert process.wait() == 0
    os.close(ours)
    text = shown.decode()
    assert "\x1b[" in text
    assert "mirrored_shared__seed_1" in text
    assert "2 finished" in text
    lines = [re.sub(r"\x1b\[\d*[FJ]", "", line) for line in text.splitlines()]
    assert [line for line in lines if len(line) >= 60] == []
