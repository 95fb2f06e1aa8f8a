"""A run with continuous actions through every command; what it wrote has the standard deviations."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from varshare_pl import load_policy
from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.cli.main import main

SMALL = ["--data.suite", "PendulumFamily", "--data.num_envs", "6", "--data.rollout_steps", "32"]
SMALL += ["--model.hidden_sizes", "[8]", "--model.minibatch_size", "64", "--evaluation.episodes", "1"]
SMALL += ["--plots.enabled", "false", "--model.log_std_init", "-0.5", "--model.lr_log_std", "0.02"]


WIDE = ["--model.sharing", "shared", "--model.hidden_sizes", "[16, 16]"]


def fit(logs: Path, name: str, *options: str) -> Path:
    assert main(["fit", *SMALL, *options, "--logs_dir", str(logs), "--experiment", name]) == 0
    return logs / name / "seed_1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("run"), "clip", "--data.total_env_steps", "576")


def log_std_of(path: Path) -> torch.Tensor:
    return read_checkpoint(path)["state_dict"]["policy.distribution.log_std"]


def details(run: Path, metric: str) -> list[dict[str, str]]:
    with (run / "diagnostics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == metric]


def test_what_it_wrote(run: Path) -> None:
    log_std = log_std_of(run / "checkpoints" / "last.ckpt")
    assert log_std.shape == (6, 1)
    assert (log_std != -0.5).all()
    rates = {row["network"]: float(row["value"]) for row in details(run, "diagnostics/lr") if row["env_steps"] == "192"}
    assert rates["actor_log_std"] == pytest.approx(0.02)
    std = [float(row["value"]) for row in details(run, "diagnostics/action_std") if row["env_steps"] == "192"]
    assert std == pytest.approx([np.exp(-0.5)] * 6, rel=1e-6)
    assert len(details(run, "kl/update")) == 2 * 6  # of the first and the last rollout


def test_validate_resume_and_prune(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, last = ["--config", str(run / "config.yaml")], run / "checkpoints" / "last.ckpt"
    assert main(["validate", *config, "--ckpt_path", str(last)]) == 0
    assert main(["prune", str(run), "--threshold", "0.5"]) == 0
    assert torch.equal(log_std_of(run / "pruned" / "threshold_0.5.ckpt"), log_std_of(last))
    assert main(["describe", *config]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^distribution +log_std +6 × 1 +6$", out, re.MULTILINE)
    # 3·8 + 8·1 weights, once and twice for each of six tasks, 9 biases and a log_std a task
    assert re.search(rf"^actor +{13 * 32 + 9 + 6} +{2 * 32 + 9 + 1} +64$", out, re.MULTILINE)


def test_play_and_export(run: Path, tmp_path: Path) -> None:
    assert main(["play", str(run), "--output", str(tmp_path / "p.gif"), "--max_steps", "20", "--stochastic"]) == 0
    policy = load_policy(run)
    obs = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    module = torch.export.load(policy.export(tmp_path / "p.pt2", "light and long")).module()
    actions, params = module(torch.from_numpy(obs))
    np.testing.assert_allclose(actions, policy(obs, 1), rtol=0, atol=1e-6)
    last = log_std_of(run / "checkpoints" / "last.ckpt")[1]
    torch.testing.assert_close(params[:, 1:], last.expand(5, 1))
    assert all(policy.suite.action_space.contains(action) for action in policy(obs, 1))


@pytest.mark.parametrize(
    "options",
    [
        ["--model.action_bounds", "tanh", "--model.log_std", "network", "--model.log_std_max", "1"],
        ["--model.action_bounds", "tanh", "--model.log_std", "shared", "--model.sharing", "independent"],
        ["--model.match_parameters", "active", "--model.log_std", "network", *WIDE],
    ],
    ids=["network", "shared", "matched"],
)
def test_options_come_back_with_the_policy(options: list[str], tmp_path: Path) -> None:
    run = fit(tmp_path, "x", "--data.total_env_steps", "192", *options)
    policy = load_policy(run)
    assert (
        main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]) == 0
    )
    state = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    names = policy.policy.state_dict().keys()
    assert {f"policy.{name}" for name in names} <= state.keys()
    assert policy.policy.distribution.num_outputs == (1 if "shared" in options[:4] else 2)
    actions = policy(np.full((50, 3), 3.0, np.float32), 0, generator=torch.Generator().manual_seed(1))
    assert all(policy.suite.action_space.contains(action) for action in actions)


def test_one_line_for_options_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.log_std", "network", "--model.log_std_init", "9", "--data.suite", "PendulumFamily"]
    assert main(["fit", *options, "--logs_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.endswith(
        "model.log_std_init: 9.0 is not allowed with model.log_std_min -5.0 and model.log_std_max 2.0; a number "
        "between them is\n"
    )
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
