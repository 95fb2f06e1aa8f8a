"""One update: from a rollout to gradient steps, against an update of plain PPO written here."""

import dataclasses

import pytest
import torch
from helpers import METHODS, collect, generator, make_policy, perturb, update, weights_of
from torch import nn

from varshare_pl.networks.noise import weight_noise
from varshare_pl.ppo.diagnostics import noise_ratio_std
from varshare_pl.ppo.losses import total_loss
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.update import build_rows, evaluate
from varshare_pl.random import stream
from varshare_pl.sharing import Shared, VarShare

CHOICES = {"gamma": 0.9, "gae_lambda": 0.8, "update_epochs": 2, "lr_actor": 3e-3, "lr_critic": 1e-3}
OPTIONS = Options(**CHOICES)


def run(policy, rollout, **options):
    return update(policy, rollout, 4, **CHOICES | options)


def doubled(rollout):
    """In float64, with some truncations of our own, one of them at the last step."""
    fields = {f.name: getattr(rollout, f.name) for f in dataclasses.fields(rollout)}
    fields = {k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in fields.items()}
    truncated = torch.rand(rollout.truncated.shape, generator=generator(3)) < 0.1
    truncated[-1, 0] = True
    final = torch.randn(rollout.final_obs.shape, generator=generator(4), dtype=torch.float64)
    fields["truncated"] = truncated
    fields["final_obs"] = torch.where(truncated[..., None], final, fields["final_obs"])
    return dataclasses.replace(rollout, **fields)


def plain_network(network):
    modules = []
    for _, layer in network.layers():
        linear = nn.Linear(layer.in_features, layer.out_features).double()
        linear.load_state_dict(layer.state_dict())
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def plain_ppo(actor, critic, rollout, max_norm):
    """PPO for one task as it stands in the paper: nothing of the package but the order of rows."""
    steps, envs = rollout.rewards.shape
    with torch.no_grad():
        values = critic(rollout.obs).squeeze(-1)
        advantages = torch.zeros(steps, envs).double()
        for env in range(envs):
            running = 0.0
            for t in reversed(range(steps)):
                following = rollout.last_obs[env] if t + 1 == steps else rollout.obs[t + 1, env]
                if rollout.truncated[t, env]:
                    following = rollout.final_obs[t, env]
                bootstrap = 0.0 if rollout.terminated[t, env] else critic(following).item()
                delta = rollout.rewards[t, env].item() + 0.9 * bootstrap - values[t, env].item()
                ended = rollout.terminated[t, env] or rollout.truncated[t, env]
                running = delta + (0.0 if ended else 0.9 * 0.8 * running)
                advantages[t, env] = running
        log_p = rollout.dist_params.log_softmax(-1)
        old = log_p.gather(-1, rollout.actions[..., None]).flatten()
    obs, actions, returns = rollout.obs.flatten(0, 1), rollout.actions.flatten(), (advantages + values).flatten()
    advantages = advantages.flatten()
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr, eps=1e-5) for network, lr in ((actor, 3e-3), (critic, 1e-3))
    ]
    order = stream(1, "minibatches", rollout.index)
    losses = []
    for _ in range(2):
        for i in torch.randperm(steps * envs, generator=order).split(steps * envs // 4):
            distribution = torch.distributions.Categorical(logits=actor(obs[i]))
            ratio = (distribution.log_prob(actions[i]) - old[i]).exp()
            surrogate = torch.min(ratio * advantages[i], ratio.clamp(0.8, 1.2) * advantages[i]).mean()
            value_loss = (critic(obs[i]).squeeze(-1) - returns[i]).square().mean()
            loss = -surrogate + 0.5 * value_loss - 0.01 * distribution.entropy().mean()
            losses.append(loss.item())
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer, network in zip(optimizers, (actor, critic), strict=True):
                nn.utils.clip_grad_norm_(network.parameters(), max_norm)
                optimizer.step()
    return sum(losses) / len(losses)


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_one_task_with_one_net_is_plain_ppo(max_norm):
    policy = make_policy("CartPole", Shared())
    perturb(policy)
    (rollout,) = collect(policy, "CartPole", 4, 32)
    assert rollout.terminated.any()
    policy, rollout = policy.double(), doubled(rollout)
    actor, critic = plain_network(policy.actor), plain_network(policy.critic)
    start = weights_of(policy)
    loss = plain_ppo(actor, critic, rollout, max_norm)
    taken = run(policy, rollout, max_grad_norm=max_norm)
    assert total_loss(taken.losses, None, 0.0, OPTIONS).mean().item() == pytest.approx(loss, abs=1e-6)
    assert len(taken.norms) == 8
    for network, plain in ((policy.actor, actor), (policy.critic, critic)):
        expected = [p.detach() for p in plain.parameters()]
        torch.testing.assert_close([p.detach() for p in network.parameters()], expected, rtol=0, atol=1e-6)
    assert all((p - start[name]).abs().max() > 5e-5 for name, p in policy.named_parameters())


def test_values_are_those_of_the_observation_that_followed():
    """A truncated step is followed by its episode's final observation, with the task of that episode."""
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    rollouts = collect(policy, "ComplexCartPole", 3, 60, rollouts=2, task_assignment="cycle")
    policy, rollout = policy.double(), doubled(rollouts[0])
    rollout.task = torch.randint(5, (60, 3), generator=generator(5))  # the task may change at every step
    _, values, next_values = evaluate(policy, rollout)
    for t in range(60):
        for env in range(3):
            value = policy.critic(rollout.obs[t, env][None], rollout.task[t, env][None])
            torch.testing.assert_close(values[t, env], value.detach().squeeze())
            if rollout.truncated[t, env]:
                following, task = rollout.final_obs[t, env], rollout.task[t, env]
            elif t == 59:
                following, task = rollout.last_obs[env], rollout.last_task[env]
            elif rollout.terminated[t, env]:
                continue  # masked by the advantage estimation
            else:
                following, task = rollout.obs[t + 1, env], rollout.task[t + 1, env]
            value = policy.critic(following[None], task[None])
            torch.testing.assert_close(next_values[t, env], value.detach().squeeze())


def test_values_are_those_of_the_posterior_mean():
    policy = make_policy("MirroredCartPole", VarShare(prior_scale=1.0))
    (rollout,) = collect(policy, "MirroredCartPole", 2, 10)
    _, first, _ = evaluate(policy, rollout)
    with torch.no_grad():
        for *_, layer in policy.layers():
            layer.log_var += 5.0
    _, second, _ = evaluate(policy, rollout)
    assert torch.equal(first, second)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("suite", "num_envs", "options"),
    [("ComplexCartPole", 10, {}), ("ComplexCartPole", 3, {"task_assignment": "cycle"})],
)
def test_ratio_is_1_before_the_first_step(method, suite, num_envs, options):
    policy = make_policy(suite, METHODS[method]())
    perturb(policy, 0.2)
    for mode in ("rollout", "mean"):
        (rollout,) = collect(policy, suite, num_envs, 24, mode=mode, **options)
        assert run(policy, rollout, actor_noise=mode).losses.log_ratio[0].abs().max() <= 1e-6


def test_ratio_is_not_1_under_fresh_noise():
    policy = make_policy("ComplexCartPole", VarShare(prior_scale=1.0))
    perturb(policy)
    (rollout,) = collect(policy, "ComplexCartPole", 10, 24, mode="fresh")
    assert run(policy, rollout, actor_noise="fresh").losses.log_ratio[0].abs().max() > 1e-3


def test_log_probs_are_those_of_the_policy_that_acted():
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    (rollout,) = collect(policy, "ComplexCartPole", 10, 24)
    rows, _ = build_rows(policy, rollout, OPTIONS)
    drawn = stream(1, "weight_noise", 0)
    noise = [weight_noise(layer, drawn) for _, layer in policy.actor.layers()]
    with torch.no_grad():
        params = policy.actor(rows["obs"], rollout.task.flatten(), noise)
    expected = torch.distributions.Categorical(logits=params).log_prob(rows["actions"])
    torch.testing.assert_close(rows["log_prob"], expected, rtol=0, atol=1e-6)


def test_rows_keep_raw_returns_and_normalise_advantages_once():
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    (rollout,) = collect(policy, "ComplexCartPole", 10, 24)
    none, _ = build_rows(policy, rollout, dataclasses.replace(OPTIONS, advantage_norm="none"))
    per_task, _ = build_rows(policy, rollout, OPTIONS)
    torch.testing.assert_close(none["returns"], none["advantages"] + none["values"])
    torch.testing.assert_close(per_task["returns"], none["returns"])
    task = rollout.task.flatten()
    for m in range(5):
        raw = none["advantages"][task == m]
        expected = (raw - raw.mean()) / raw.std(correction=0)
        torch.testing.assert_close(per_task["advantages"][task == m], expected, rtol=1e-4, atol=1e-5)


def test_target_kl_stops_before_the_step_that_goes_too_far():
    def final(target_kl):
        policy = make_policy("CartPole", Shared())
        perturb(policy)
        (rollout,) = collect(policy, "CartPole", 4, 32)
        taken = run(policy, rollout, target_kl=target_kl)
        assert len(taken.losses.policy) == len(taken.norms) + taken.stopped_early
        return (len(taken.norms), taken.stopped_early), weights_of(policy)

    free, weights = final(None)
    lax, same = final(1e3)
    assert free == lax == (8, False)
    torch.testing.assert_close(same, weights, rtol=0, atol=0)
    strict, _ = final(1e-9)
    assert strict == (1, True)


def test_order_noise_and_all_hang_on_the_rollout_and_the_seed_only():
    def final(index=0, seed=1, global_seed=0):
        policy = make_policy("ComplexCartPole")
        (rollout,) = collect(policy, "ComplexCartPole", 5, 24)
        torch.manual_seed(global_seed)
        run(policy, dataclasses.replace(rollout, index=index), seed=seed)
        return torch.cat([p.flatten() for p in weights_of(policy).values()])

    assert torch.equal(final(), final(global_seed=5))
    assert not torch.equal(final(), final(index=1))
    assert not torch.equal(final(), final(seed=2))


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_task_learns_nothing_from_data(method):
    """Rows of task 0 only, no KL: the residuals of task 1 stay where they were."""
    policy = make_policy("MirroredCartPole", METHODS[method]())
    perturb(policy)
    (rollout,) = collect(policy, "MirroredCartPole", 2, 24)
    zeros = torch.zeros_like(rollout.task)
    rollout = dataclasses.replace(rollout, task=zeros, last_task=zeros[0])
    before = weights_of(policy)
    run(policy, rollout, kl_weight=0.0)
    for name, p in policy.named_parameters():
        moved = (p.detach() - before[name]).abs() > 0
        if name.endswith(("mu", "log_var")) or method == "independent":
            assert moved[0].any()
            assert not moved[1].any()


def test_noise_ratio_std():
    """What fresh noise would inject: grows with σ, is 0 without noise, and absent for methods that have none."""
    stds = []
    for scale in (1e-6, 0.1, 1.0):
        policy = make_policy("ComplexCartPole", VarShare(prior_scale=scale))
        with torch.no_grad():
            for *_, layer in policy.layers():
                layer.theta += torch.randn(layer.theta.shape, generator=generator(1))
        (rollout,) = collect(policy, "ComplexCartPole", 5, 24, mode="mean")
        rows, groups = build_rows(policy, rollout, OPTIONS)
        stds.append(noise_ratio_std(policy, rows, groups, 0, 1))
    assert stds[0] < 1e-4 < 1e-3 < stds[1] < stds[2]
    policy = make_policy("ComplexCartPole", Shared())
    assert noise_ratio_std(policy, rows, groups, 0, 1) is None
