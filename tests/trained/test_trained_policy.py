"""A trained policy without its Trainer: the same actions, from a folder or a lone file, and one-line errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import PLAIN_ARGS, generator, randn

from varshare_pl import load_policy
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError

NAMES = ("baseline", "short light pole", "long heavy pole", "low gravity", "tight limits")


def short_run(logs, *options):
    """The folder of a short run of VarShare on ComplexCartPole."""
    sizes = ["--data.num_envs", "10", "--data.rollout_steps", "32", "--data.total_env_steps", "1280"]
    sizes += ["--model.minibatch_size", "160", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
    sizes += ["--model.kl_weight", "0", *PLAIN_ARGS, "--plots.enabled", "false"]
    assert main(["fit", *sizes, "--experiment", "short", "--logs_dir", str(logs), *options]) == 0
    return logs / "short" / "seed_1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return short_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def obs():
    return randn(40, 4, dtype=torch.float32)


def by_hand(run, obs, task):
    """Logits of W_m = θ + μ_m, in NumPy, from the checkpoint's tensors."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    x = obs.numpy().astype(np.float64)
    for layer in ("layer_1", "head"):
        theta, mu, bias = (
            state[f"policy.actor.stack.{layer}.{name}"].double().numpy() for name in ("theta", "mu", "bias")
        )
        x = x @ (theta + mu[task]).T + bias
        x = np.tanh(x) if layer == "layer_1" else x
    return x


def test_actions_are_those_of_the_weights_in_the_checkpoint(run, obs):
    policy = load_policy(run)
    assert policy.tasks == NAMES
    assert policy.method == "varshare"
    assert policy.env_steps == 1280
    assert policy.suite.name == "ComplexCartPole"
    logits = np.stack([by_hand(run, obs, task) for task in range(5)])
    assert len({tuple(row.argmax(-1)) for row in logits}) > 1  # tasks differ, so a wrong task is seen
    for task, name in enumerate(NAMES):
        np.testing.assert_allclose(policy.action_params(obs, torch.full((40,), task)), logits[task], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(policy(obs.numpy(), task), logits[task].argmax(-1))
        np.testing.assert_array_equal(policy(obs.numpy(), name), logits[task].argmax(-1))


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_observations_are_normalised_as_in_the_run(tmp_path, obs, scope):
    options = ["--model.normalize_observations", scope, "--model.normalize_returns", scope, "--model.popart", "true"]
    run = short_run(tmp_path, *options, "--model.normalize_rewards", scope)
    policy = load_policy(run)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    mean, variance = (state[f"policy.observation_moments.{name}"] for name in ("mean", "variance"))
    mean, variance = mean.expand(5, 4), variance.expand(5, 4)
    for task in range(5):
        normal = ((obs - mean[task]) / variance[task].sqrt()).clamp(-10.0, 10.0)
        logits = by_hand(run, normal, task)
        np.testing.assert_allclose(policy.action_params(obs, torch.full((40,), task)), logits, rtol=0, atol=1e-5)
    program = torch.export.load(policy.export(tmp_path / "task_4.pt2", 4)).module()
    np.testing.assert_allclose(program(obs)[1], logits, rtol=0, atol=1e-5)


def test_single_rows_batches_arrays_and_tensors_agree(run, obs):
    policy, tasks = load_policy(run), np.arange(40) % 5
    actions = policy(obs, torch.from_numpy(tasks))
    assert isinstance(actions, torch.Tensor)
    assert actions.shape == (40,)
    names = [NAMES[task] for task in tasks]
    for same in (policy(obs.numpy(), tasks), policy(obs.numpy(), tasks.tolist()), policy(obs.numpy(), names)):
        assert isinstance(same, np.ndarray)
        np.testing.assert_array_equal(same, actions)
    singles = [policy(row, int(task)) for row, task in zip(obs.numpy(), tasks, strict=True)]
    assert singles == actions.tolist()
    assert policy.suite.action_space.contains(singles[0])


def test_a_generator_draws_from_the_distribution(run):
    policy, obs = load_policy(run), torch.zeros(4000, 4) + torch.tensor([0.5, 1.0, -0.1, -1.0])
    drawn = policy(obs, 1, generator=generator(3))
    torch.testing.assert_close(drawn, policy(obs, 1, generator=generator(3)))
    assert not torch.equal(drawn, policy(obs, 1, generator=generator(4)))
    p = policy.action_params(obs[:1], torch.tensor([1])).softmax(-1)[0, 1].item()
    assert 0.02 < p < 0.98
    assert drawn.float().mean().item() == pytest.approx(p, abs=4.5 * (p * (1 - p) / 4000) ** 0.5)


def test_a_checkpoint_alone_is_enough_and_an_older_one_needs_its_folder(run, tmp_path, obs):
    alone = tmp_path / "alone.ckpt"
    shutil.copy(run / "checkpoints" / "last.ckpt", alone)
    assert torch.equal(load_policy(alone)(obs, 3), load_policy(run, checkpoint="best")(obs, 3))
    content = torch.load(alone, weights_only=True)
    del content["varshare_config"]
    torch.save(content, alone)
    with pytest.raises(
        ConfigError, match=r"alone\.ckpt was written without its config; it must be in its run's folder"
    ):
        load_policy(alone)
    (tmp_path / "old" / "checkpoints").mkdir(parents=True)
    shutil.copy(alone, tmp_path / "old" / "checkpoints" / "last.ckpt")
    shutil.copy(run / "config.yaml", tmp_path / "old")
    assert torch.equal(load_policy(tmp_path / "old")(obs, 3), load_policy(run)(obs, 3))


def test_the_readmes_example_runs(run, tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load_policy" in block)
    (tmp_path / "logs" / "complex_cartpole").mkdir(parents=True)
    (tmp_path / "logs" / "complex_cartpole" / "seed_1").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["action"] in (0, 1)
    assert torch.equal(names["actions"], names["policy"](torch.zeros(8, 4), "low gravity"))


def test_lightning_is_not_loaded(run):
    code = f"import sys, varshare_pl; assert 'torch' not in sys.modules; print(varshare_pl.load_policy({str(run)!r}))"
    code += "; assert 'lightning' not in sys.modules and 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "TrainedPolicy(varshare on ComplexCartPole after 1280 env steps)\n"


@pytest.mark.parametrize(
    ("obs", "task", "message"),
    [
        (np.zeros(3), 0, r"obs: the shape (3,) is not allowed; (4,) or (rows, 4) is"),
        (np.zeros((2, 2, 4)), 0, r"obs: the shape (2, 2, 4) is not allowed; (4,) or (rows, 4) is"),
        (np.zeros((0, 4)), 0, r"obs: the shape (0, 4) is not allowed; (4,) or (rows, 4) is"),
        (np.zeros(4), 5, f"task: 5 is not allowed; 0 to 4 or {', '.join(NAMES)} is"),
        (np.zeros(4), -1, f"task: -1 is not allowed; 0 to 4 or {', '.join(NAMES)} is"),
        (np.zeros(4), "base", f"task: 'base' is not allowed; 0 to 4 or {', '.join(NAMES)} is"),
        (np.zeros((2, 4)), [0, 5], f"task: 5 is not allowed; 0 to 4 or {', '.join(NAMES)} is"),
        (np.zeros((2, 4)), 0.5, f"task: 0.5 is not allowed; 0 to 4 or {', '.join(NAMES)} is"),
        (np.zeros((2, 4)), [0, 1, 2], "task: the shape (3,) is not allowed; one task, or (2,) is"),
    ],
)
def test_wrong_input_is_told_in_one_line(run, obs, task, message):
    with pytest.raises(ConfigError) as caught:
        load_policy(run)(obs, task)
    assert str(caught.value) == message


def test_wrong_files_are_told_in_one_line(run, tmp_path):
    with pytest.raises(ConfigError, match=r"last\.ckpt is missing; it is not the folder of a run"):
        load_policy(tmp_path)
    with pytest.raises(ConfigError, match=r"load_policy: .*none is not a file"):
        load_policy(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"load_policy: .*config\.yaml is not a checkpoint"):
        load_policy(run / "config.yaml")
    with pytest.raises(ConfigError, match="checkpoint: 'first' is not allowed; 'last' or 'best' is"):
        load_policy(run, checkpoint="first")
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(ConfigError, match=r"last\.ckpt is missing; no such checkpoint yet"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("VarShare\n", "Gone\n", r"sharing method varshare_pl\.sharing\.\S*Gone cannot be loaded"),
        ("varshare_pl.sharing.", "gone.", r"gone\.\S*VarShare cannot be loaded.*on the import path"),
        ("ComplexCartPole", "MirroredCartPole", "the checkpoint has suite ComplexCartPole, the config has Mirrored"),
        (
            "hidden_sizes:\n  - 8",
            "hidden_sizes:\n  - 9",
            r"layer_1\.theta has the shape \(8, 4\), the config's model \(9, 4\)",
        ),
        ("hidden_sizes", "sizes", "the config of .* is incomplete or damaged: 'hidden_sizes'"),
        ("observations: none", "observations: true", "observations: True .*; auto, shared, task or none is; .* task"),
        ("returns: none", "returns: popart", "returns: popart .*; popart has become task, with model.popart true"),
        (
            "prior_scale",
            "noise_controller: false\n      rank: 2\n      prior_scale",
            "option rank has .* varshare_low_rank",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_told_in_one_line(run, tmp_path, old, new, message):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert old in content["varshare_config"]
    assert content["varshare_config"] == (run / "config.yaml").read_text(encoding="utf-8")
    content["varshare_config"] = content["varshare_config"].replace(old, new)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=message):
        load_policy(Path(tmp_path / "other.ckpt"))


@pytest.mark.parametrize("class_path", ["subprocess.Popen", "subprocess.check_output", "os.system"])
def test_a_crafted_config_calls_nothing_but_a_sharing_method(run, tmp_path, class_path):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    config = yaml.safe_load(content["varshare_config"])
    argument = "command" if class_path == "os.system" else "args"
    payload = f"touch {tmp_path / 'ran'}"
    value = payload if class_path == "os.system" else payload.split()
    config["model"]["sharing"] = {"class_path": class_path, "init_args": {argument: value}}
    content["varshare_config"] = yaml.safe_dump(config)
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(ConfigError, match=f"{class_path} is not allowed as sharing method"):
        load_policy(tmp_path / "crafted.ckpt")
    assert not (tmp_path / "ran").exists()


def test_matched_widths_are_found_again(tmp_path, obs):
    sizes = ["--data.num_envs", "10", "--data.rollout_steps", "32", "--data.total_env_steps", "320"]
    sizes += ["--model.minibatch_size", "160", "--model.hidden_sizes", "[16]", "--evaluation.episodes", "1"]
    sizes += ["--model.sharing", "shared", "--model.match_parameters", "stored", "--plots.enabled", "false"]
    assert main(["fit", *sizes, "--experiment", "matched", "--logs_dir", str(tmp_path)]) == 0
    policy = load_policy(tmp_path / "matched" / "seed_1")
    assert policy.policy.hidden_sizes[0] > 32
    assert policy(obs, 0).shape == (40,)
