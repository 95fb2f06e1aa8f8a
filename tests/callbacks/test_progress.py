import fcntl
import os
import struct
import sys
import termios
import threading
from contextlib import contextmanager

import pytest
from recording import record_run

from varshare_pl.callbacks.progress import ProgressLine, clock, number, progress_text, short

KNOWN = {"train/return_mean": 212.4, "sharing/ratio": 0.9823, "sps": 30000.0}
KNOWN |= {f"train/return_task_{m}": 87.0 + 50 * m for m in range(5)}


@contextmanager
def terminal(monkeypatch, width):
    """A pseudo-terminal as stderr; the list it gives holds what was written, once it is closed."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    chunks, written = [], []

    def read():
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # how Linux tells that the other end is closed
                return
            if not chunk:
                return
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stderr, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            yield written
    finally:
        reader.join()
        os.close(master)
        written.append(b"".join(chunks).decode())


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_one_line_and_is_left_clean(tmp_path, monkeypatch, width):
    with terminal(monkeypatch, width) as written:
        record_run(tmp_path, [ProgressLine()], rollouts=4)
    text = written[0]
    assert text.count("\n") == 1
    assert text.endswith("\n")
    frames = [frame for frame in text.split("\r") if frame.strip()]
    assert all(len(frame) < width for frame in frames)
    for part in ("1.02k/1.02k", "return   80", "worst   30", "0.97", "done"):
        assert part in frames[-1]


def test_refreshes_are_limited(tmp_path, monkeypatch):
    with terminal(monkeypatch, 100) as written:
        record_run(tmp_path, [ProgressLine()], rollouts=100)  # takes far less than two seconds
    frames = [frame for frame in written[0].split("\r") if frame.strip()]
    assert 2 <= len(frames) <= 25


def test_an_exception_leaves_the_cursor_on_a_new_line(tmp_path, monkeypatch):
    with terminal(monkeypatch, 80) as written, pytest.raises(RuntimeError, match="the rollout failed"):
        record_run(tmp_path, [ProgressLine()], rollouts=4, fail_at=3)
    assert written[0].endswith("\n")
    assert "512/1.02k" in written[0].split("\r")[-2]


def test_a_resumed_run_starts_where_it_was(tmp_path, monkeypatch):
    with terminal(monkeypatch, 120) as written:
        record_run(tmp_path, [ProgressLine()], rollouts=1, start=3)
    assert written[0].split("\r")[1].startswith("100% ")


def test_nothing_is_printed_to_a_pipe_or_when_turned_off(tmp_path, monkeypatch, capfd):
    record_run(tmp_path, [ProgressLine()], rollouts=2)
    assert capfd.readouterr().err == ""
    with terminal(monkeypatch, 80) as written:
        record_run(tmp_path, [ProgressLine(enabled=False)], rollouts=2)
    assert written[0] == ""


@pytest.mark.parametrize("width", range(10, 200))
def test_every_width_gives_one_line_that_fits(width):
    text = progress_text(width, 84_000, 200_000, 33_100.0, 2.5, KNOWN)
    assert 0 < len(text) < width
    assert "\n" not in text


def test_what_the_line_says():
    wide = progress_text(120, 84_000, 200_000, 33_100.0, 2.5, KNOWN)
    for part in (
        "42%",
        "84.0k/200k steps",
        "33.1k/s",
        "return  212",
        "worst   87 (task 0)",
        "sharing 0.982",
        "0:04 left",
    ):
        assert part in wide
    usual = progress_text(80, 84_000, 200_000, 33_100.0, 2.5, KNOWN)
    for part in ("84.0k/200k", "33.1k/s", "return  212", "worst   87", "share 0.98", "0:04 left"):
        assert part in usual
    ascii_only = progress_text(80, 84_000, 200_000, 33_100.0, 2.5, KNOWN, ascii_only=True)
    assert ascii_only.isascii()


def test_what_is_not_known_is_left_out():
    assert progress_text(80, 84_000, None, 33_100.0, 2.5, {}) == "84.0k steps  33.1k/s"
    one_task = progress_text(120, 84_000, 200_000, 0.0, 0.0, {"train/return_task_0": 9.0, "train/return_mean": 9.0})
    assert "worst" not in one_task
    assert "sharing" not in one_task
    assert "left" not in one_task


def test_numbers():
    assert [short(n) for n in (0, 950, 999.9, 1024, 12_800, 99_990, 200_192, 1_250_000, 3e9)] == (
        ["0", "950", "1.00k", "1.02k", "12.8k", "100k", "200k", "1.25M", "3.00G"]
    )
    assert [number(r) for r in (0.5, 21.456, 212.4, -1234.5, 1.5e7)] == ["0.5", "21.5", "212", "-1234", "1.5e+07"]
    assert [clock(s) for s in (3.6, 75, 3725)] == ["0:04", "1:15", "1:02:05"]
