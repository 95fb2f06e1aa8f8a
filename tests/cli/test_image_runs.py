"""Runs on images, and on a suite in a mapping: trained, resumed, loaded, exported, reported."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from varshare_pl.cli.main import main
from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.collector import Collector
from varshare_pl.sharing import VarShare
from varshare_pl.trained.policy import load_policy
from varshare_pl.types import RolloutPlan

SUITE: dict[str, Any] = {
    "name": "Pictures",
    "tasks": [
        {"id": "picture_env:Picture-v0", "name": "lit"},
        {"id": "picture_env:Picture-v0", "name": "dark", "kwargs": {"mirrored": True}},
    ],
    "time_limit": 8,
    "success": {"solved": 7},
    "anchors": {"low": 4, "high": [8, 8]},
}
SIZES = ["--data.num_envs", "4", "--data.rollout_steps", "16", "--model.minibatch_size", "32", "--model.lr_actor"]
SIZES += ["1e-3", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "2", "--plots.enabled", "false"]
SIZES += ["--data.suite", json.dumps(SUITE)]


def fit(name: str, steps: int, *options: str) -> Path:
    args = ["fit", *SIZES, "--data.total_env_steps", str(steps), "--experiment", name, *options]
    assert main(args) == 0
    return Path("logs") / name / "seed_1"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_from_start_to_report(here: Path, capsys: pytest.CaptureFixture[str], drawn: dict[str, Any]) -> None:
    run = fit("a", 128, "--evaluation.every", "64")
    info = json.loads((run / "run.json").read_text())
    assert (info["suite"], info["solved_return"]) == ("Pictures", 7.0)
    assert info["anchors"] == {"low": [4.0, 4.0], "high": [8.0, 8.0]}

    policy = load_policy(run)
    suite = get_suite(SUITE)
    vec = make_vector_env(suite, 2, "sync", seed=5)
    obs, _ = vec.reset()
    assert obs.dtype == np.uint8
    actions = policy(obs, [0, 1])
    for task in range(2):
        program = torch.export.load(policy.export(Path(f"{task}.pt2"), task)).module()
        exported, params = program(torch.from_numpy(obs[[task]]))
        assert exported.item() == actions[task]
        tasks = torch.tensor([task])
        torch.testing.assert_close(params, policy.action_params(torch.from_numpy(obs[[task]]), tasks))
    capsys.readouterr()

    assert main(["describe", *SIZES]) == 0
    assert "encoder.stack.0.weight" in capsys.readouterr().out
    last = str(run / "checkpoints" / "last.ckpt")
    assert main(["validate", *SIZES, "--ckpt_path", last]) == 0
    assert main(["report", str(run.parent)]) == 0
    with (run.parent / "report" / "scores.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    final = json.loads((run / "summary.json").read_text())["final"]["return_mean"]
    scores = [float(row["value"]) for row in rows if row["metric"] == "final/score" and row["task"] == ""]
    assert scores[0] == pytest.approx((final - 4) / 4)

    shorter = {**SUITE, "time_limit": 9}
    capsys.readouterr()
    assert main(["validate", *SIZES, "--data.suite", json.dumps(shorter), "--ckpt_path", last]) == 2
    err = capsys.readouterr().err
    assert "the checkpoint's task 0 is (" in err
    assert err.count("\n") == 1


def test_resumed_is_uninterrupted(here: Path) -> None:
    whole = fit("whole", 192, "--model.anneal_lr", "false", "--checkpoint.every", "1")
    part = fit("part", 128, "--model.anneal_lr", "false", "--checkpoint.every", "1")
    assert main(["resume", str(part), "--data.total_env_steps", "192"]) == 0
    one, two = weights(whole), weights(part)
    assert any("encoder" in name for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "options",
    [
        ["--model.actor_noise", "stored", "--model.critic_noise", "weights"],
        ["--model.combiner", "pcgrad", "--model.cosine_every", "1"],
        ["--model.sharing", "independent", "--model.match_parameters", "active"],
        ["--model.normalize_observations", "task", "--model.normalize_returns", "task", "--model.popart", "true"],
        ["--model.encoder", "none", "--data.num_workers", "2"],
    ],
    ids=" ".join,
)
def test_options_beside_images(options: list[str], here: Path) -> None:
    run = fit("x", 128, *options)
    assert json.loads((run / "summary.json").read_text())["finished"]


def test_images_are_kept_as_bytes_and_learned_from() -> None:
    suite = get_suite(SUITE)
    module = PPOModule(
        suite.env_spec(),
        RolloutPlan(512, 12),
        VarShare(),
        hidden_sizes=(16,),
        minibatch_size=128,
        lr_actor=3e-3,
        lr_critic=3e-3,
        gamma=0.0,
        anneal_lr=False,
    )
    module.configure_optimizers()
    collector = Collector(make_vector_env(suite, 16, "sync", seed=1), 2, obs_dtype=np.dtype(np.uint8))
    before = {name: p.detach().clone() for name, p in module.policy.named_parameters()}
    for k in range(12):
        rollout = collector.collect(module.acting_policy(k), 32, k)
        assert rollout.obs.dtype == rollout.last_obs.dtype == rollout.final_obs.dtype == torch.uint8
        record = module.learn(rollout)
    assert all(not torch.equal(p, before[n]) for n, p in module.policy.named_parameters() if "encoder" in n)
    assert record.metrics["train/return_mean"] > 6.5  # 4 is chance, 8 the most


def test_padded_tasks_train_with_actions_of_their_own(here: Path) -> None:
    suite = {"name": "Mixed", "tasks": ["CartPole-v1", "Acrobot-v1"], "pad": True}
    sizes = [*SIZES[:-1], json.dumps(suite)]
    args = ["--data.total_env_steps", "128", "--experiment", "mixed"]
    assert main(["fit", *sizes, *args, "--model.actor_noise", "stored"]) == 0
    policy = load_policy("logs/mixed/seed_1")
    obs = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    drawn = [policy(obs, task, torch.Generator().manual_seed(1)) for task in range(2)]
    assert [set(actions.tolist()) for actions in drawn] == [{0, 1}, {0, 1, 2}]
