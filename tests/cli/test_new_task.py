"""``fit --init_from`` with a suite that has more tasks: the zero-shot return first, then training."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from varshare_pl.cli.main import main
from varshare_pl.envs import get_suite
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import VarShare
from varshare_pl.trained.evaluation import evaluate
from varshare_pl.types import RolloutPlan

SMALL = ["--data.num_envs", "4", "--data.rollout_steps", "32", "--model.hidden_sizes", "[8]"]
SMALL += ["--model.minibatch_size", "64", "--evaluation.episodes", "2", "--checkpoint.every", "1"]
SMALL += ["--plots.enabled", "false"]


def fit(folder: Path, suite: str, *options: str, rollouts: int = 2) -> Path:
    args = ["--data.suite", suite, "--data.total_env_steps", str(128 * rollouts), "--logs_dir", str(folder)]
    assert main(["fit", *SMALL, *args, *options, "--experiment", "x"]) == 0
    return folder / "x" / "seed_1"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("first"), "CartPole") / "checkpoints" / "last.ckpt"


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_zero_shot_return_is_reported_first(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: dict[str, Any]
) -> None:
    capsys.readouterr()
    run = fit(tmp_path, "MirroredCartPole", "--init_from", str(first), "--logger", "csv", "--plots.enabled", "true")
    out = capsys.readouterr().out
    assert out.startswith("zero-shot, before any training with the new tasks:\ntask ")
    assert out.index("swapped actions") < out.index("results: ")
    beats = rows(run / "heartbeat.csv")
    assert [row["env_steps"] for row in beats] == ["0", "128", "256"]
    assert beats[0]["loss/total"] == ""
    summary = json.loads((run / "summary.json").read_text())
    returns = summary["zero_shot"]["return_per_task"]
    assert returns == pytest.approx([float(beats[0][f"eval/return_task_{m}"]) for m in (0, 1)])
    assert summary["zero_shot"]["return_mean"] == pytest.approx(sum(returns) / 2)
    assert rows(run / "csv" / "metrics.csv")[0]["eval/return/swapped actions"] == beats[0]["eval/return_task_1"]
    assert "returns" in drawn
    assert main(["report", str(run.parent)]) == 0
    assert "answer" in drawn


def test_it_is_the_return_of_the_weights_that_training_starts_from(first: Path, tmp_path: Path) -> None:
    run = fit(tmp_path, "MirroredCartPole", "--init_from", str(first))
    summary = json.loads((run / "summary.json").read_text())
    suite, (old, new) = get_suite("MirroredCartPole"), (load(first), load(run / "checkpoints" / "last.ckpt"))
    module = PPOModule(suite.env_spec(), RolloutPlan(128, 3), VarShare(), hidden_sizes=(8,), minibatch_size=64)
    module.load_weights(old)
    result = evaluate(module.policy.deterministic(), suite, episodes=2, seed=1, counter=0)
    assert summary["zero_shot"]["return_per_task"] == pytest.approx(result.task_returns.tolist())
    assert new["optimizer_states"][0]["state"][0]["step"] == 2 * old["optimizer_states"][0]["state"][0]["step"]


def test_resumed_equals_uninterrupted(first: Path, tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", "MirroredCartPole", "--init_from", str(first), rollouts=4)
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(first.read_bytes())
    part = fit(tmp_path / "b", "MirroredCartPole", "--init_from", str(copy), "--model.anneal_lr", "false")
    expected = fit(
        tmp_path / "c", "MirroredCartPole", "--init_from", str(copy), "--model.anneal_lr", "false", rollouts=4
    )
    copy.unlink()  # a resume needs it no more
    assert main(["resume", str(part), "--data.total_env_steps", "512"]) == 0
    states = [load(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (part, expected)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0, equal_nan=True)
    assert [row["env_steps"] for row in rows(part / "heartbeat.csv")] == ["0", "128", "256", "384", "512"]
    assert "zero_shot" in json.loads((part / "summary.json").read_text())
    assert "zero_shot" in json.loads((whole / "summary.json").read_text())


def test_starting_again_writes_the_first_row_once(first: Path, tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint."""
    run = fit(tmp_path, "MirroredCartPole", "--init_from", str(first))
    before = [row["loss/total"] for row in rows(run / "heartbeat.csv")]
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert main(["resume", str(run)]) == 0
    assert [row["loss/total"] for row in rows(run / "heartbeat.csv")] == before


def test_as_many_tasks_are_no_new_ones(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tmp_path, "CartPole", "--init_from", str(first))
    assert "zero-shot" not in capsys.readouterr().out
    assert "zero_shot" not in json.loads((run / "summary.json").read_text())
    assert rows(run / "heartbeat.csv")[0]["env_steps"] == "128"


@pytest.mark.parametrize(
    ("suite", "match"),
    [
        ("[{id: CartPole-v1, name: another}, CartPole-v1]", "must begin with the checkpoint's 1 tasks; its task 0 is"),
        ("ConflictBandit", "must begin with the checkpoint's 1 tasks; its task 0 is"),
    ],
)
def test_other_suites_are_refused_before_anything_is_written(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: str, match: str
) -> None:
    args = ["--data.suite", suite, "--init_from", str(first), "--logs_dir", str(tmp_path / "logs")]
    assert main(["fit", *SMALL, *args]) == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (tmp_path / "logs").exists()
