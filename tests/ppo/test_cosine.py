"""The cosine between the tasks' gradients: against autograd, and it changes nothing."""

import csv

import pytest
import torch
from helpers import collect, fit, make_policy, perturb

from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.errors import ConfigError
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.networks.size import shared_parameters
from varshare_pl.ppo.cosine import CosineMatrix, cosine_record, cosines
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import build_rows
from varshare_pl.results.heat_map import pair_matrices
from varshare_pl.results.plots import plot_run
from varshare_pl.results.run_tables import read_tables
from varshare_pl.rollout.minibatches import task_weights
from varshare_pl.sharing import Independent, SharedOneHot

OPTIONS = PPOOptions(value_coef=0.5, entropy_coef=0.01)
RUN = {"suite": "ComplexCartPole", "num_envs": 5, "total_env_steps": 480}


def test_of_two_vectors():
    found = cosines(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [-2.0, 0.0]]))
    expected = torch.tensor([[1.0, 0.5**0.5, -1.0], [0.5**0.5, 1.0, -(0.5**0.5)], [-1.0, -(0.5**0.5), 1.0]])
    torch.testing.assert_close(found[[0, 1, 3]][:, [0, 1, 3]], expected)
    assert bool(found[2].isnan().all())


def test_it_is_that_of_each_tasks_loss_over_the_rollout():
    policy = make_policy("ComplexCartPole")
    perturb(policy, 0.2)
    (rollout,) = collect(policy, "ComplexCartPole", 5, 40)
    rows, groups = build_rows(policy, rollout, OPTIONS)
    of_actor = make_actor_noise("rollout", policy.actor, 1)
    weight = task_weights(rows["task"], 5)
    found = CosineMatrix(policy).measure(rows, groups, weight, 0, OPTIONS, of_actor, 1)
    noise = of_actor.acting(0, 0, 5)
    for name, _ in policy.networks():
        gradients = []
        for task in range(5):
            mine = rows["task"] == task
            obs, actions = rows["obs"][mine], rows["actions"][mine]
            if name == "actor":
                output = policy.actor(obs, rows["task"][mine], noise)
                chosen = torch.distributions.Categorical(logits=output)
                ratio = (chosen.log_prob(actions) - rows["log_prob"][mine]).exp()
                loss = -(ratio * rows["advantages"][mine]).mean() - 0.01 * chosen.entropy().mean()
            else:
                loss = (policy.critic(obs, rows["task"][mine]).squeeze(1) - rows["returns"][mine]).square().mean()
            own = torch.autograd.grad(loss, shared_parameters(policy, name))
            gradients.append(torch.cat([g.flatten() for g in own]))
        for m in range(5):
            expected = torch.nn.functional.cosine_similarity(torch.stack(gradients), gradients[m][None])
            torch.testing.assert_close(found[name][m], expected, rtol=1e-3, atol=1e-4)
    metrics, details = cosine_record(found)
    assert len(details) == 2 * 10
    assert metrics["gradients/cosine"] == pytest.approx(sum(d.value for d in details) / 20, abs=1e-6)
    assert {(d.network, d.task, d.metric) for d in details} >= {("critic", 3, "gradients/cosine_with_4")}


@pytest.mark.parametrize("combined", [False, True])
def test_measuring_changes_nothing(combined):
    from varshare_pl.combiners import combiner_names

    def train(every):
        combiner = combiner_names()["pcgrad"]() if combined else None
        return fit(RUN, combiner=combiner, cosine_every=every, minibatch_size=80)

    off, on = train(None), train(2)
    for one, two in zip(off.module.parameters(), on.module.parameters(), strict=True):
        assert torch.equal(one, two)
    assert ["gradients/cosine" in r.metrics for r in on.records] == [True, False, True]
    assert not any("gradients/cosine" in r.metrics for r in off.records)


def test_a_column_and_a_heat_map(tmp_path, drawn):
    run = fit(RUN, [Heartbeat()], {"default_root_dir": tmp_path}, cosine_every=2, minibatch_size=80)
    with (tmp_path / "heartbeat.csv").open() as table:
        cells = [row["gradients/cosine"] for row in csv.DictReader(table)]
    assert [bool(cell) for cell in cells] == [True, False, True]
    matrices = pair_matrices(read_tables(tmp_path).details, "gradients/cosine", 5)
    pairs = [d.value for r in run.records for d in r.details if d.metric == "gradients/cosine_with_3"]
    assert matrices["actor", ""].shape == (5, 5)
    of_task_0 = [pairs[0], pairs[6]]  # by rollout, network and task
    assert matrices["actor", ""][0, 3] == pytest.approx(sum(of_task_0) / 2, abs=1e-6)
    assert (matrices["actor", ""] == matrices["actor", ""].T).all()
    assert [path.stem for path in plot_run(tmp_path)][-1] == "cosine"


def test_where_nothing_is_shared():
    with pytest.raises(ConfigError, match=r"model.cosine_every: a number is not allowed where no parameter is shared"):
        fit(RUN, sharing=Independent(), cosine_every=1, minibatch_size=80)
    with pytest.raises(ConfigError, match=r"model.cosine_every"):
        fit(RUN | {"suite": "CartPole"}, sharing=SharedOneHot(), cosine_every=1, minibatch_size=80)
