"""Control tasks on workers, killed in the midst of a run, end with the bits of a run that was left alone."""

import time
from pathlib import Path

import pytest
from test_exact_resume import assert_same, state
from test_faults import start, wait_for_rows

from varshare_pl.cli.main import main

STEPS, ROLLOUTS = 24, 8  # of each env; an episode of 40 steps ends in the second rollout
SMALL = ["--data.backend", "workers", "--data.num_workers", "2", "--data.rollout_steps", str(STEPS)]
SMALL += ["--model.hidden_sizes", "[16]", "--evaluation.episodes", "1", "--plots.enabled", "false"]
SMALL += ["--model.diagnostics_every", "2", "--checkpoint.every", "1", "--experiment", "x"]


def options(suite: str, envs: int) -> list[str]:
    rows = envs * STEPS
    sizes = ["--data.num_envs", str(envs), "--data.total_env_steps", str(ROLLOUTS * rows)]
    return [
        "--data.suite",
        suite,
        *SMALL,
        *sizes,
        "--model.minibatch_size",
        str(rows),
        "--evaluation.every",
        str(3 * rows),
    ]


def kill(run: Path, rows: int, *args: str) -> None:
    """Run a command in a process of its own and kill it once the heartbeat has more than so many rows."""
    with start(*args) as process:
        wait_for_rows(run, rows, seconds=600)  # ten models of MuJoCo take long to be made
        time.sleep(0.05)  # into the next rollout
        process.kill()
    assert not (run / "summary.json").exists(), "it ended before the kill: give it more rollouts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "envs"),
    [
        ("{name: MetaWorld, benchmark: MT10, horizon: 40}", 10),
        ("{name: CheetahFamily, horizon: 40}", 7),  # seven envs on six tasks change them
    ],
    ids=["MT10", "CheetahFamily"],
)
def test_two_kills_change_nothing(tmp_path: Path, suite: str, envs: int) -> None:
    args = options(suite, envs)
    assert main(["fit", *args, "--logs_dir", str(tmp_path / "whole")]) == 0
    run = tmp_path / "x" / "seed_1"
    kill(run, 2, "fit", *args, "--logs_dir", str(tmp_path))
    kill(run, 4, "resume", str(run))
    assert main(["resume", str(run)]) == 0
    assert_same(state(tmp_path / "whole" / "x" / "seed_1"), state(run))
