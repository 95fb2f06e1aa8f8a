"""Running moments in learning: targets and values of the critic, scaled rewards, and that acting and learning agree."""

import dataclasses
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import collect, fit, make_policy, make_spec, perturb, randn
from lightning.pytorch import Callback
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.groups import TaskGroups
from varshare_pl.policy.moments import TaskMoments
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.normalisation import LARGEST_REWARD, RewardScaling, moment_details, normalise_targets
from varshare_pl.ppo.update import UpdateOptions, build_rows, evaluate_values
from varshare_pl.rollout.gae import gae
from varshare_pl.sharing import VarShare, method_names

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
ALL = {"normalize_observations": True, "normalize_returns": "popart", "normalize_rewards": True}
EACH = {
    "observations": {"normalize_observations": True},
    "running": {"normalize_returns": "running"},
    "popart": {"normalize_returns": "popart"},
    "rewards": {"normalize_rewards": True},
    "all": ALL,
}
OPTIONS = UpdateOptions(
    epochs=1,
    num_minibatches=2,
    gamma=0.9,
    gae_lambda=0.8,
    advantage_norm="none",
    actor_noise="rollout",
    critic_noise="local",
    target_kl=None,
    seed=1,
)
CYCLE = {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}


def a_policy(mode, method="varshare", dtype=torch.float64):
    policy = make_policy("ComplexCartPole", METHODS[method](), normalize_returns=mode).to(dtype)
    perturb(policy)
    return policy


def some_rows(seed, tasks=5):
    task = torch.arange(200) % tasks
    returns = randn(200, seed=seed) * (10.0 ** task.to(torch.float64)) + 100.0 * task
    return task, returns


def raw_values(policy, x, task):
    return policy.values(policy.critic(x, task).squeeze(-1), task).detach()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_popart_keeps_every_value(method, dtype, precision):
    policy, x = a_policy("popart", method, dtype), randn(200, 4).to(dtype)
    task, _ = some_rows(0)
    for seed in range(3):
        before = raw_values(policy, x, task)
        std = policy.return_moments.std.clone()
        rows = {"task": task, "values": before, "returns": some_rows(seed)[1].to(dtype) * (1.0 + seed)}
        normalise_targets(policy, rows)
        assert not torch.allclose(policy.return_moments.std, std, rtol=0.05)
        if seed:  # the first moments move nothing
            after = raw_values(policy, x, task)
            assert ((after - before).abs() / policy.return_moments.std[task]).max() < precision
        torch.testing.assert_close(rows["values"], policy.critic(x, task).squeeze(-1).detach(), rtol=1e-4, atol=1e-4)


def test_running_keeps_every_output():
    policy, x = a_policy("running"), randn(200, 4)
    task, _ = some_rows(0)
    for seed in range(2):
        outputs = policy.critic(x, task).squeeze(-1).detach()
        rows = {"task": task, "values": raw_values(policy, x, task), "returns": some_rows(seed)[1]}
        normalise_targets(policy, rows)
        torch.testing.assert_close(policy.critic(x, task).squeeze(-1).detach(), outputs, rtol=0, atol=0)
        torch.testing.assert_close(rows["values"], outputs)


@pytest.mark.parametrize("mode", ["running", "popart"])
def test_targets_are_normalised_by_the_moments_of_their_task(mode):
    policy, every = a_policy(mode), []
    for seed in range(3):
        task, returns = some_rows(seed)
        rows = {"task": task, "values": torch.zeros(200).double(), "returns": returns}
        normalise_targets(policy, rows)
        every.append(returns)
    for m in range(5):
        so_far = torch.cat([part[task == m] for part in every]).numpy()
        expected = (returns[task == m].numpy() - so_far.mean()) / so_far.std()
        np.testing.assert_allclose(rows["returns"][task == m].numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mode", ["running", "popart"])
def test_advantages_come_from_raw_values(mode):
    """With a critic that says V in units of its own, what it says about rewards counts."""
    policy = a_policy(mode, dtype=torch.float32)
    task, returns = some_rows(0)
    returns = returns / 1e4  # of the size of the rewards
    normalise_targets(policy, {"task": task, "values": returns.float(), "returns": returns.float()})
    mean, std = policy.return_moments.mean, policy.return_moments.std
    (rollout,) = collect(policy, "ComplexCartPole", 3, 40, task_assignment="cycle")
    rollout.truncated[7, 1] = True
    rollout.terminated[7, 1] = False
    rollout.final_obs[7, 1] = randn(4, dtype=torch.float32)
    groups = TaskGroups.from_rows(rollout.task.flatten(), 5)
    values, following = evaluate_values(policy, rollout, groups)

    def value(obs, task):
        return (policy.critic(obs[None], task[None]).squeeze() * std[task] + mean[task]).detach()

    for t in range(40):
        for env in range(3):
            torch.testing.assert_close(values[t, env], value(rollout.obs[t, env], rollout.task[t, env]))
    torch.testing.assert_close(following[7, 1], value(rollout.final_obs[7, 1], rollout.task[7, 1]))
    for env in range(3):
        torch.testing.assert_close(following[-1, env], value(rollout.last_obs[env], rollout.last_task[env]))
    rows, _ = build_rows(policy, rollout, OPTIONS)
    ends = (rollout.terminated, rollout.truncated)
    expected = gae(rollout.rewards, values, following, *ends, 0.9, 0.8)
    assert torch.equal(rows["advantages"], expected.flatten())
    assert torch.equal(rows["returns"], (expected + values).flatten())


def discounted_returns(rollouts, gamma):
    """By the letter, env after env: (task, R) of every step."""
    seen = []
    for env in range(rollouts[0].rewards.shape[1]):
        running = 0.0
        for rollout in rollouts:
            for t in range(len(rollout.rewards)):
                running = gamma * running + rollout.rewards[t, env].item()
                seen.append((rollout.task[t, env].item(), running))
                if rollout.terminated[t, env] or rollout.truncated[t, env]:
                    running = 0.0
    return np.array([m for m, _ in seen]), np.array([value for _, value in seen])


def with_rewards(rollout, k):
    return dataclasses.replace(rollout, rewards=randn(*rollout.rewards.shape, seed=k, dtype=torch.float32) + 0.5)


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    """Envs change their tasks; the returns of an episode go on from one rollout to the next."""
    policy = make_policy("ComplexCartPole")
    rollouts = collect(policy, "ComplexCartPole", 3, 40, rollouts=3, task_assignment="cycle")
    rollouts = [with_rewards(rollout, k) for k, rollout in enumerate(rollouts)]
    scaling = RewardScaling(TaskMoments(5), 0.9)
    for k, rollout in enumerate(rollouts):
        raw = rollout.rewards.clone()
        scaled = scaling(rollout)
        assert torch.equal(rollout.rewards, raw)  # what is logged stays raw
        task, seen = discounted_returns(rollouts[: k + 1], 0.9)
        deviation = np.array([seen[task == m].std() if (task == m).any() else 1.0 for m in range(5)])
        expected = rollout.rewards.numpy() / deviation[rollout.task.numpy()]
        np.testing.assert_allclose(scaled.rewards.numpy(), expected, rtol=1e-5)


def test_large_rewards_are_cut_off():
    (rollout,) = collect(make_policy("CartPole"), "CartPole", 2, 300)
    rollout.rewards[5, 1] = -1e4
    scaled = RewardScaling(TaskMoments(1), 0.0)(rollout).rewards
    assert scaled[5, 1] == -LARGEST_REWARD
    assert (scaled.abs() < LARGEST_REWARD).sum() == 599


def test_scaling_goes_on_from_its_state():
    rollouts = collect(make_policy("ComplexCartPole"), "ComplexCartPole", 3, 10, rollouts=2)
    whole, resumed = RewardScaling(TaskMoments(5), 0.9), RewardScaling(TaskMoments(5), 0.9)
    assert whole.state() == []
    resumed.load_state([])
    whole(rollouts[0])
    resumed._moments.load_state_dict(whole._moments.state_dict())
    resumed.load_state(whole.state())
    assert any(whole.state())
    assert torch.equal(whole(rollouts[1]).rewards, resumed(rollouts[1]).rewards)
    assert whole.state() == resumed.state()


class ScaledReward(gym.Env):
    """Reward scale · (1 for an action that follows the sign of the observation), for 10 steps."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)
    scale = 1.0

    def _observe(self):
        self.state = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.state], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return self._observe(), {}

    def step(self, action):
        reward = float(self.scale * (int(action) == (self.state > 0.0)))
        self.left -= 1
        return self._observe(), reward, self.left == 0, False, {}


@pytest.fixture
def scaled_suite():
    gym.register("ScaledReward-v0", entry_point=ScaledReward)

    def suite(*scales):
        return [
            {"id": "ScaledReward-v0", "name": f"task {m}", "attributes": {"scale": s}} for m, s in enumerate(scales)
        ]

    yield suite
    del gym.registry["ScaledReward-v0"]


@pytest.mark.parametrize("kind", ["running", "popart", "rewards"])
def test_training_does_not_see_the_scale_of_rewards(scaled_suite, kind):
    runs = []
    for scales in ((1.0, 1.0), (1000.0, 0.1)):
        # A critic that starts at 0 has no scale of its own, nor have advantages that are normalised.
        options = {"critic_head_gain": 1e-9, "anneal_lr": False, **EACH[kind]}
        runs.append(fit({"suite": scaled_suite(*scales)}, **options))
    one, other = runs
    for (name, p), q in zip(one.module.named_parameters(), other.module.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=2e-4, msg=name)
    for record, scaled in zip(one.records, other.records, strict=True):
        assert scaled.metrics["loss/value"] == pytest.approx(record.metrics["loss/value"], rel=1e-3)
        for task, factor in ((0, 1000.0), (1, 0.1)):  # but what is logged is raw
            name = f"train/return_task_{task}"
            assert scaled.metrics[name] == pytest.approx(factor * record.metrics[name], rel=1e-5)
    loss = {
        scales: fit({"suite": scaled_suite(*scales)}).records[-1].metrics["loss/value"]
        for scales in ((1.0, 1.0), (1000.0, 0.1))
    }
    assert loss[1000.0, 0.1] > 1e3 * loss[1.0, 1.0]  # without normalisation it does see it


@pytest.mark.parametrize("kind", EACH)
def test_the_ratio_starts_at_1_and_moments_move_between_rollouts(kind):
    run = fit(CYCLE | {"total_env_steps": 4 * 128}, **EACH[kind])
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    policy = run.module.policy
    rows = 4 * 128
    for moments in (policy.observation_moments, policy.return_moments, policy.reward_moments):
        assert moments is None or moments.count.sum() == rows


def test_observation_moments_are_those_of_all_rollouts():
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append((batch.obs.flatten(0, 1).double(), batch.task.flatten()))

    run = fit(CYCLE | {"total_env_steps": 4 * 128}, [Watch()], normalize_observations=True)
    obs, task = (torch.cat(column).numpy() for column in zip(*seen, strict=True))
    moments = run.module.policy.observation_moments
    for m in range(5):
        np.testing.assert_allclose(moments.mean[m], obs[task == m].mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.variance[m], obs[task == m].var(0), rtol=1e-4)


class StopAfter(Callback):
    def __init__(self, rollouts, path):
        self.rollouts, self.path = rollouts, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch.index + 1 == self.rollouts:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("data", [{}, CYCLE], ids=["fixed", "cycle"])
def test_resumed_equals_uninterrupted(kind, data, tmp_path):
    data = {"total_env_steps": 4 * 128, **data}
    whole = fit(data, **EACH[kind])
    path = tmp_path / "stopped.ckpt"
    fit(data, [StopAfter(2, path)], **EACH[kind])
    torch.load(path, weights_only=True)
    rest = fit(data, ckpt_path=path, **EACH[kind])
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0, equal_nan=True)
    assert rest.module.learner.state().get("discounted_returns") == whole.module.learner.state().get(
        "discounted_returns"
    )


def test_a_checkpoint_of_another_normalisation_is_refused(tmp_path):
    path = tmp_path / "plain.ckpt"
    fit({"total_env_steps": 256}, [StopAfter(1, path)])
    with pytest.raises(ConfigError, match=r"^--ckpt_path: only the .* has the parameter policy\."):
        fit({"total_env_steps": 256}, ckpt_path=path, **ALL)


def test_weights_of_a_checkpoint_come_with_their_moments(tmp_path):
    path = tmp_path / "stopped.ckpt"
    first = fit({"total_env_steps": 256}, [StopAfter(1, path)], **ALL)
    spec = make_spec(get_suite("MirroredCartPole"), 128)
    module = PPOModule(spec, VarShare(), hidden_sizes=(8, 8), minibatch_size=64, **ALL)
    module.load_weights(torch.load(path, weights_only=True))
    for name, value in first.module.policy.state_dict().items():
        assert torch.equal(module.policy.state_dict()[name], value), name
    assert module.policy.observation_moments.count.sum() == 128


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_in_a_precision(precision):
    run = fit(trainer={"precision": precision}, **ALL)
    names = ("loss/total", "loss/value", "diagnostics/grad_norm")
    assert all(math.isfinite(record.metrics[name]) for record in run.records for name in names)
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert {b.dtype for name, b in run.module.policy.named_buffers() if "moments.mean" in name} == {dtype}


def trace(function, arguments, name):
    """In place of the compiler: the graph that it would get, run by torch."""
    with warnings.catch_warnings(action="ignore"):
        graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    for constant, value in list(graph.named_buffers()):
        setattr(graph, constant, value.clone())  # machine code keeps constants as they were
    return graph


@pytest.mark.parametrize("kind", EACH)
def test_traced_gradient_steps_see_the_moments_of_the_moment(kind, monkeypatch):
    """The graph is made in the first rollout, when moments are still 0 and 1."""
    monkeypatch.setattr(compiled, "compile_function", trace)
    weights = []
    for traced in (False, True):
        spec = make_spec(get_suite("MirroredCartPole"), 16)
        options = {"hidden_sizes": (8,), "minibatch_size": 16, "update_epochs": 1, **EACH[kind]}
        module = PPOModule(spec, VarShare(), **options)
        perturb(module, 0.1)
        optimizer = module.configure_optimizers()
        eager = module.stepping.eager(optimizer)
        step = module.stepping.compiled(optimizer) if traced else eager
        for rollout in collect(module.policy, "MirroredCartPole", 4, 4, rollouts=3):
            module.learner(rollout, step)
        weights.append([p.detach().clone() for p in module.parameters()])
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_details_of_moments():
    policy = make_policy("ComplexCartPole", normalize_returns="running", normalize_rewards=True)
    assert moment_details(policy) == []
    policy.return_moments.update(torch.tensor([1.0, 3.0]), torch.tensor([2, 2]))
    policy.reward_moments.update(torch.tensor([0.0, 10.0]), torch.tensor([4, 4]))
    found = {(d.metric, d.task): d.value for d in moment_details(policy)}
    assert found == {
        ("normalisation/return_mean", 2): 2.0,
        ("normalisation/return_std", 2): 1.0,
        ("normalisation/reward_std", 4): 5.0,
    }
    assert moment_details(make_policy("ComplexCartPole")) == []
