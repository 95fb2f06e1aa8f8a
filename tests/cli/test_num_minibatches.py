"""Minibatches by their number: the same run as by their size, resumed and described too."""

from pathlib import Path

import numpy as np
import pytest

from varshare_pl.cli.main import main
from varshare_pl.results.files import read_heartbeat

SIZES = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--model.hidden_sizes", "[8]"]
SIZES += ["--evaluation.episodes", "1", "--plots.enabled", "false"]
BY_NUMBER = ["--model.minibatch_size", "null", "--model.num_minibatches", "4"]
CLOCK = ("sps", "wall_time_s")


def test_a_number_of_minibatches_is_a_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("size", ["--model.minibatch_size", "10"]), ("number", BY_NUMBER)):
        assert main(["fit", *SIZES, "--data.total_env_steps", "40", *options, "--experiment", name]) == 0
        assert main(["resume", f"logs/{name}/seed_1", "--data.total_env_steps", "80"]) == 0
    size, number = (read_heartbeat(here / "logs" / name / "seed_1") for name in ("size", "number"))
    for column in size.keys() - {*CLOCK}:
        np.testing.assert_array_equal(size[column], number[column], column)
    assert size["gradient_steps"][-1] == 2 * 4 * 4  # rollouts, epochs, minibatches
    capsys.readouterr()
    assert main(["describe", *SIZES, *BY_NUMBER]) == 0
    assert main(["resume", "logs/number/seed_1", "--data.total_env_steps", "120", "--model.num_minibatches", "2"]) == 2
    assert "model.num_minibatches" in capsys.readouterr().err
