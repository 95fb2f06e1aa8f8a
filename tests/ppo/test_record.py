"""What is written down of an update."""

import math

import pytest
import torch
from helpers import collect, fit, inputs_of, make_policy, perturb, update

from varshare_pl.ppo.losses import kl_scale
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.record import update_record
from varshare_pl.ppo.update import build_rows
from varshare_pl.sharing import Shared


def test_a_record_is_consistent():
    run = fit(sharing=Shared())
    assert "loss/kl" not in run.records[0].metrics
    assert not any(name.startswith("sharing/") for name in run.records[0].metrics)
    run = fit()
    for k, record in enumerate(run.records):
        m = record.metrics
        total = m["loss/policy"] + 0.5 * m["loss/value"] - 0.01 * m["loss/entropy"] + m["loss/kl"]
        assert m["loss/total"] == pytest.approx(total, rel=1e-4)
        assert m["gradient_steps"] == 4 * (k + 1)
        assert record.env_steps == 128 * (k + 1)
        assert math.isfinite(m["diagnostics/grad_norm"])
        assert m["kl/policy"] >= 0
        for name in ("loss/policy", "loss/value"):
            per_task = [d.value for d in record.details if d.metric == name]
            assert sum(per_task) / len(per_task) == pytest.approx(m[name], rel=1e-4)


def test_means_over_the_steps_by_hand():
    """Of a policy that hardly moves, so that every step has the losses of the first weights; task 1 has no rows."""
    policy = make_policy("ComplexCartPole")
    perturb(policy, 0.2)
    (rollout,) = collect(policy, "ComplexCartPole", 10, 24, mode="mean")
    rollout.task[rollout.task == 1] = 3  # whose rows have a ratio of their own then
    still = {
        "actor_noise": "mean",
        "critic_noise": "mean",
        "lr_actor": 1e-12,
        "lr_critic": 1e-12,
        "max_grad_norm": None,
    }
    choices = still | {"kl_weight": 3.0, "entropy_coef": 0.2, "value_coef": 0.7, "clip_range": 0.05}
    options = Options(**choices)
    rows, groups = build_rows(policy, rollout, options)
    taken = update(policy, rollout, 4, **choices)
    present = torch.tensor([True, False, True, True, True])
    metrics, details = update_record(taken, policy, groups.group_task, present, kl_scale(3.0, policy), options)

    distribution = torch.distributions.Categorical(logits=policy.actor(rows["obs"], rows["task"]))
    ratio = (distribution.log_prob(rows["actions"]) - rows["log_prob"]).exp()
    surrogate = -torch.min(ratio * rows["advantages"], ratio.clamp(0.95, 1.05) * rows["advantages"])
    error = (policy.critic(rows["obs"], rows["task"]).squeeze(1) - rows["returns"]).square()
    columns = {
        "loss/policy": surrogate,
        "loss/value": error,
        "loss/entropy": distribution.entropy(),
        "kl/policy": ratio - 1 - ratio.log(),
        "diagnostics/clip_fraction": ((ratio - 1).abs() > 0.05).float(),
    }
    of_tasks = {
        name: {m: column[rows["task"] == m].mean().item() for m in (0, 2, 3, 4)} for name, column in columns.items()
    }
    expected = {name: sum(values.values()) / 4 for name, values in of_tasks.items()}
    assert 0.05 < expected["diagnostics/clip_fraction"] <= 0.25
    kl = policy.kl().mean().item()
    expected |= {"kl/posterior": kl, "loss/kl": 3.0 * kl / policy.num_variational}
    expected["loss/total"] = (
        expected["loss/policy"] + 0.7 * expected["loss/value"] - 0.2 * expected["loss/entropy"] + expected["loss/kl"]
    )
    where = {tuple(obs.tolist()): i for i, obs in enumerate(rows["obs"])}
    first = [
        where[tuple(obs.tolist())] for obs in next(inputs_of(policy, rollout, 4, **choices)).batch.obs.flatten(0, 1)
    ]
    expected["diagnostics/first_ratio_deviation"] = (ratio[first] - 1).abs().max().item()
    expected["diagnostics/stopped_early"] = 0.0
    of_networks = {name: sum(n[k] for n in taken.norms) / 16 for k, name in enumerate(("actor", "critic"))}
    expected["diagnostics/grad_norm"] = math.hypot(*of_networks.values())
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for name in ("loss/policy", "loss/value"):
        found = {d.task: d.value for d in details if d.metric == name}
        assert found == pytest.approx(of_tasks[name], rel=1e-4, abs=1e-6)
    found = {d.network: d.value for d in details if d.metric == "diagnostics/grad_norm"}
    assert found == pytest.approx(of_networks)
