"""Policies in folders for a model hub: the same actions as the run's, from weights without a pickle."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import ALL_METHODS, make_policy, perturb, randn
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from varshare_pl import load_policy
from varshare_pl.cli.main import main
from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.trained.card import scores
from varshare_pl.trained.policy_folder import acting_weights, read_policy_folder, write_policy_folder

SMALL = ["--data.suite", "ComplexCartPole", "--data.num_envs", "10", "--data.rollout_steps", "32"]
SMALL += ["--data.total_env_steps", "1280", "--model.minibatch_size", "160", "--model.hidden_sizes", "[8]"]
SMALL += ["--evaluation.episodes", "1", "--plots.enabled", "false", "--experiment", "short"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("hub")
    assert main(["fit", *SMALL, "--logs_dir", str(logs)]) == 0
    return logs / "short" / "seed_1"


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "policy"
    assert main(["export-hub", str(run), str(folder), "--episodes", "4", "--seed", "3"]) == 0
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "policy")


def test_the_folder_acts_as_the_run(run: Path, exported: Path) -> None:
    ours, theirs = load_policy(run), load_policy(exported)
    assert (theirs.tasks, theirs.method, theirs.env_steps) == (ours.tasks, ours.method, 1280)
    obs, task = randn(50, 4, dtype=torch.float32), torch.arange(50) % 5
    torch.testing.assert_close(theirs.action_params(obs, task), ours.action_params(obs, task), rtol=0, atol=0)
    # Another route: W = θ + μ_m from the file's tensors, in NumPy.
    file = {name: tensor.double().numpy() for name, tensor in load_file(exported / "model.safetensors").items()}
    mean, variance = (file[f"observation_moments.{name}"] for name in ("mean", "variance"))
    x = ((obs.double().numpy() - mean.reshape(-1, 4)[0]) / np.sqrt(variance.reshape(-1, 4)[0])).clip(-10, 10)
    for layer in ("layer_1", "head"):
        theta, mu, bias = (file[f"actor.stack.{layer}.{name}"] for name in ("theta", "mu", "bias"))
        x = x @ (theta + mu[2]).T + bias
        x = np.tanh(x) if layer == "layer_1" else x
    np.testing.assert_allclose(theirs.action_params(obs, torch.full((50,), 2)), x, rtol=0, atol=1e-5)


def test_only_what_acts_is_in_it(exported: Path) -> None:
    with safe_open(exported / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert not [name for name in names if name.startswith("critic") or "log_var" in name or "rho" in name]
    assert {path.name for path in exported.iterdir()} == {
        *("model.safetensors", "config.json", "README.md", "returns.png")
    }
    critic = next(load_policy(exported).policy.critic.parameters())
    assert bool(critic.isnan().all())  # so that nobody takes it for a trained one


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_comes_back_as_it_was(method: str, tmp_path: Path) -> None:
    policy = make_policy("MirroredCartPole", ALL_METHODS[method]())
    perturb(policy)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    cls = ALL_METHODS[method]
    model = {
        "sharing": {"class_path": f"{cls.__module__}.{cls.__qualname__}"},
        "hidden_sizes": list(policy.hidden_sizes),
    }
    config = {"data": {"suite": "MirroredCartPole"}, "model": model}
    suite = get_suite("MirroredCartPole")
    write_policy_folder(tmp_path, policy, suite, config, {"method": method, "env_steps": 7})
    for name, tensor in policy.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True, msg=name)
    read, _, name, env_steps = read_policy_folder(tmp_path)
    assert (name, env_steps) == (method, 7)
    obs, task = randn(40, 4, dtype=torch.float32), torch.arange(40) % 2
    expected = policy.actor(obs, task)
    torch.testing.assert_close(read.actor(obs, task), expected, rtol=0, atol=0)
    kept = sum(tensor.numel() for tensor in acting_weights(policy).values())
    assert kept < sum(tensor.numel() for tensor in before.values())


def test_the_card_says_what_it_is_and_how_well_it_does(run: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["library_name"] == "varshare-pl"
    assert "reinforcement-learning" in meta["tags"]
    (result,) = meta["model-index"][0]["results"]
    assert result["dataset"] == {"type": "ComplexCartPole", "name": "ComplexCartPole"}
    (metric,) = result["metrics"]
    assert metric["type"] == "mean_reward"
    assert f"| mean | {metric['value']:.5g} [" in body
    for told in ("low gravity", "4 episodes of each task", "seed 3", "(returns.png)", "load_policy(", "at least 475"):
        assert told in body
    facts = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert (facts["library_name"], facts["method"], facts["seed"]) == ("varshare-pl", "varshare", 1)
    assert str(run.parents[1]) not in card + json.dumps(facts)


def test_intervals_are_of_episodes() -> None:
    values = np.stack([np.full(50, 3.0), np.random.default_rng(0).normal(10.0, 2.0, 50)])
    (first, second), overall = scores(values)
    assert first == (3.0, 3.0, 3.0)
    deviation = values[1].std(ddof=1) / np.sqrt(50)  # another route: the normal interval
    assert second.mean == pytest.approx(values[1].mean())
    assert second.low == pytest.approx(second.mean - 1.96 * deviation, abs=0.15)
    assert second.high == pytest.approx(second.mean + 1.96 * deviation, abs=0.15)
    assert overall.mean == pytest.approx((3.0 + second.mean) / 2)
    assert overall.high - overall.low == pytest.approx((second.high - second.low) / 2, abs=0.1)
    values[1, 0] = np.nan  # an episode that told no success
    assert scores(values)[0][1].mean == pytest.approx(values[1, 1:].mean())


def test_the_hub_is_asked_by_its_own_package(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any, Any]] = []

    def snapshot_download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        if name != "me/policy":
            raise OSError("404:\nno such repository")
        return str(exported)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    files = ["model.safetensors", "config.json"]
    assert load_policy("hf://me/policy").env_steps == 1280
    assert load_policy("hf://me/policy@v2").env_steps == 1280
    assert asked == [("me/policy", None, files), ("me/policy", "v2", files)]
    assert main(["play", "hf://me/policy", "--output", str(tmp_path / "a.gif"), "--max_steps", "3"]) == 0
    assert (tmp_path / "a.gif").stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"^load_policy: hf://me/none cannot be loaded: OSError: 404: no such"):
        load_policy("hf://me/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r'needs the package huggingface_hub; pip install "varshare-pl\[hub\]"$'):
        load_policy("hf://me/policy")


def lacking(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["actor.stack.head.theta"]
    save_file(weights, folder / "model.safetensors")


def reshaped(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"actor.stack.head.theta": torch.zeros(3, 3)}, folder / "model.safetensors")


def other_task(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["tasks"][2] = "another physics"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lacking, "lacks weights that the actions depend on"),
        (reshaped, r"does not fit its config\.json: actor\.stack\.head\.theta"),
        (other_task, r"the checkpoint's task 2 is \(another physics\)"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle"), "is damaged"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "is incomplete or damaged"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not valid YAML"),
        (lambda folder: (folder / "config.json").unlink(), "is damaged: .*No such file"),
    ],
)
def test_a_damaged_folder_is_one_line(copy: Path, damage: Any, told: str) -> None:
    damage(copy)
    with pytest.raises(ConfigError, match=told) as error:
        load_policy(copy)
    assert str(error.value).startswith("load_policy: ")
    assert "\n" not in str(error.value)


def test_no_class_but_a_method_is_made(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["model"]["sharing"] = {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"subprocess\.Popen is not allowed as sharing method"):
        load_policy(copy)


def test_a_folder_is_replaced_only_when_asked(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (copy / "mine.txt").write_text("mine")
    before = (copy / "README.md").read_text(encoding="utf-8")
    assert main(["export-hub", str(run), str(copy)]) == 2
    told = f"export-hub: {copy} is not empty; give another one, or --overwrite to replace a policy there"
    assert capsys.readouterr().err.splitlines() == [f"varshare: error: {told}"]
    assert main(["export-hub", str(run), str(copy), "--episodes", "2", "--overwrite"]) == 0
    assert (copy / "README.md").read_text(encoding="utf-8") != before
    assert (copy / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--episodes", "0"], "--episodes: 0 is not allowed; an integer of at least 1 is"),
        (["--seed", "-1"], "--seed: -1 is not allowed; an integer of at least 0 is"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert main(["export-hub", str(run), str(tmp_path / "new"), *args]) == 2
    assert capsys.readouterr().err.splitlines() == [f"varshare: error: {told}"]
    assert not (tmp_path / "new").exists()
    assert main(["export-hub", str(tmp_path), str(tmp_path / "new")]) == 2
    assert f"{tmp_path} is not the folder of a run" in capsys.readouterr().err
