"""Runs a training to its end, then the same again while killing it 30 times; called by ``test_thirty_kills``."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from test_exact_resume import SMALL

import varshare_pl.cli.lightning  # noqa: F401  # imported before the forks, so that each starts at once
from varshare_pl.cli.main import main

ROWS, ROLLOUTS, KILLS = 160, 300, 30
OPTIONS = [*SMALL, "--data.num_envs", "10", "--data.total_env_steps", str(ROLLOUTS * ROWS)]
OPTIONS += ["--model.minibatch_size", "40", "--evaluation.every", str(2 * ROWS)]


def fork(args: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        os._exit(main(args))
    return pid


def rows(run: Path) -> int:
    path = run / "heartbeat.csv"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run_and_kill(folder: Path) -> None:
    torch.set_num_threads(1)
    whole = ["fit", *OPTIONS, "--logs_dir", str(folder / "whole")]
    assert os.waitstatus_to_exitcode(os.waitpid(fork(whole), 0)[1]) == 0
    run, draw, kills = folder / "x" / "seed_1", random.Random(1), 0
    while kills < KILLS:
        begun = (run / "config.yaml").exists()
        pid = fork(["resume", str(run)] if begun else ["fit", *OPTIONS, "--logs_dir", str(folder)])
        before, deadline = rows(run), time.monotonic() + 30
        # Most kills are to fall into the training, some into the start.
        while draw.random() > 0.02 and rows(run) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it ended before the kill: give it more rollouts"
        kills += 1
    assert os.waitstatus_to_exitcode(os.waitpid(fork(["resume", str(run)]), 0)[1]) == 0
    print(f"killed {kills} times")


if __name__ == "__main__":
    run_and_kill(Path(sys.argv[1]))
