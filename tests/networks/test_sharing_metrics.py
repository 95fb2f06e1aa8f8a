"""Sharing metrics: by hand, in any gauge, and where there is nothing to measure."""

import math

import pytest
import torch
from helpers import drawn, perturb, randn

from varshare_pl.networks.sharing_metrics import cosines, details, headline, measure
from varshare_pl.sharing import IndependentLinear, OneHotLinear, SharedLinear, VarShareLinear


def layer_with(theta, mu, sigma=1.0):
    """A VarShare layer with given θ (out, in), μ (M, out, in) and one σ."""
    theta, mu = torch.tensor(theta, dtype=torch.float64), torch.tensor(mu, dtype=torch.float64)
    layer = VarShareLinear(theta.shape[1], theta.shape[0], len(mu)).double()
    with torch.no_grad():
        layer.theta.copy_(theta)
        layer.mu.copy_(mu)
        layer.log_var.fill_(2 * math.log(sigma))
    return layer


def measured(layer):
    (result,) = measure([("actor", "head", layer)])
    return result


def test_by_hand():
    """θ = (2, 0) and μ = (1, 3), (3, −1): the mean (2, 1) moves to θ̄ = (4, 1), μ̃ = (−1, 2), (1, −2)."""
    layer = layer_with([[2.0, 0.0]], [[[1.0, 3.0]], [[3.0, -1.0]]], sigma=0.75)
    m = measured(layer)
    theta, mu = math.sqrt(17), math.sqrt(5)
    assert m.theta_norm.item() == pytest.approx(theta)
    assert m.mu_norm.tolist() == pytest.approx([mu, mu])
    assert m.ratio.tolist() == pytest.approx([theta / (theta + mu)] * 2)
    assert m.energy.item() == pytest.approx(17 / 22)
    assert m.task_similarity.item() == pytest.approx(-1.0)
    assert m.sigma.tolist() == pytest.approx([0.75, 0.75])
    assert m.specialised.tolist() == pytest.approx([0.5, 0.5])  # |−1| < 1.5 < |2|
    torch.testing.assert_close(m.kl, layer.kl())


def test_cosine_of_three_tasks_by_hand():
    """μ̃ = (2, 0), (−1, 1), (−1, −1): cosines −1/√2, −1/√2 and 0."""
    m = measured(layer_with([[0.0, 0.0]], [[[2.0, 0.0]], [[-1.0, 1.0]], [[-1.0, -1.0]]]))
    assert m.task_similarity.item() == pytest.approx(-math.sqrt(2) / 3)


def test_cosine_of_symmetric_residuals_is_the_null_value():
    """Residuals of a simplex, all alike: −1/(M−1)."""
    m = measured(layer_with([[0.0] * 4], [[[float(i == j) for j in range(4)]] for i in range(4)]))
    assert m.task_similarity.item() == pytest.approx(-1 / 3)


def test_gauge_invariance():
    layer = VarShareLinear(5, 4, 3).double()
    perturb(layer)
    before = measured(layer)
    head = headline([before])
    shift = 10 * randn(4, 5, seed=3)
    with torch.no_grad():
        layer.theta += shift
        layer.mu -= shift
    after = measured(layer)
    for field in ("ratio", "energy", "theta_norm", "mu_norm", "task_similarity", "sigma", "specialised"):
        torch.testing.assert_close(getattr(after, field), getattr(before, field))
    assert headline([after]) == pytest.approx(head)


def test_raw_share_lies_where_the_true_one_does_not():
    """θ far larger than μ looks all shared; but the mean of μ cancels θ, and what acts is nearly all task-specific."""
    theta, mean, own = 1000.0, -999.95, 0.95
    layer = layer_with([[theta]], [[[mean + own]], [[mean - own]]])
    raw = layer.theta.norm() / (layer.theta.norm() + (layer.mu - layer.mu.mean(0)).flatten(1).norm(dim=1))
    assert raw.mean().item() == pytest.approx(1.00, abs=0.005)
    assert measured(layer).ratio.tolist() == pytest.approx([0.05, 0.05])


def test_the_other_way_round():
    """All of the weight sits in μ, the same for every task: raw share 0, true share 1."""
    m = measured(layer_with([[0.0]], [[[3.0]], [[3.0]]]))
    assert m.ratio.tolist() == [1.0, 1.0]
    assert m.energy.item() == 1.0


def test_one_task_is_all_shared_and_has_no_cosine():
    layer = VarShareLinear(5, 4, 1)
    perturb(layer)
    m = measured(layer)
    assert m.ratio.tolist() == [1.0]
    assert m.energy.item() == 1.0
    assert m.task_similarity.isnan()


def test_residuals_of_zero_have_no_cosine():
    assert measured(drawn(VarShareLinear(5, 4, 3))).task_similarity.isnan()
    assert measured(layer_with([[1.0]], [[[1.0]], [[0.0]], [[-1.0]]])).task_similarity.isnan()


def test_two_tasks_always_have_cosine_minus_one():
    layer = VarShareLinear(5, 4, 2).double()
    perturb(layer)
    assert measured(layer).task_similarity.item() == pytest.approx(-1.0)


def test_independent_nets_share_by_the_same_measure():
    layer = IndependentLinear(2, 2, 2).double()
    with torch.no_grad():
        layer.weight[0] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        layer.weight[1] = -layer.weight[0]
    m = measured(layer)
    assert m.ratio.tolist() == [0.0, 0.0]
    assert (m.sigma, m.specialised, m.kl) == (None, None, None)


def test_methods_without_task_weights_are_left_out():
    layers = [("actor", "layer_1", OneHotLinear(2, 2, 2)), ("actor", "head", SharedLinear(2, 2, 2))]
    assert measure(layers) == []
    assert headline([]) == {}
    assert details([]) == []


def test_the_kl_is_left_out_where_nobody_asks():
    layers = [("actor", "head", drawn(VarShareLinear(3, 2, 2)))]
    (without,), (with_it,) = measure(layers, full=False), measure(layers)
    assert without.kl is None
    assert torch.equal(with_it.kl, layers[0][2].kl())
    assert torch.equal(without.ratio, with_it.ratio)


def test_headline_is_the_mean_over_layers_of_the_mean_over_tasks():
    a = measured(layer_with([[3.0, 0.0]], [[[1.0, 0.0]], [[-1.0, 0.0]]], sigma=0.25))
    b = measured(layer_with([[0.0, 0.0]], [[[0.0, 0.0]], [[0.0, 0.0]]], sigma=0.75))
    c = measured(layer_with([[1.0, 0.0]], [[[0.0, 3.0]], [[0.0, -3.0]]], sigma=0.5))
    values = headline([a, c])
    assert values["sharing/ratio"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert values["sharing/energy"] == pytest.approx((9 / 10 + 1 / 10) / 2)
    assert values["sharing/sigma"] == pytest.approx(0.375)
    assert values["sharing/specialised"] == pytest.approx((0.5 + 0.5) / 2)
    assert values["sharing/task_similarity"] == pytest.approx(-1.0)
    assert headline([a, b])["sharing/task_similarity"] == pytest.approx(-1.0)  # a layer without one is left out


def test_details_have_a_row_per_layer_and_task():
    m = measured(layer_with([[3.0, 0.0]], [[[1.0, 0.0]], [[-1.0, 0.0]]]))
    rows = details([m])
    assert {(r.network, r.layer) for r in rows} == {("actor", "head")}
    assert [(r.task, r.value) for r in rows if r.metric == "sharing/ratio"] == [(0, 0.75), (1, 0.75)]
    assert [(r.task, r.value) for r in rows if r.metric == "sharing/energy"] == [(None, pytest.approx(0.9))]
    assert [r.value for r in rows if r.metric == "kl/posterior"] == pytest.approx(m.kl.tolist())
    per_layer = {"sharing/energy", "sharing/theta_norm", "sharing/task_similarity"}
    per_task = {"sharing/ratio", "sharing/mu_norm", "sharing/sigma", "sharing/specialised", "kl/posterior"}
    per_task |= {"sharing/cosine_with_1"}
    assert {r.metric for r in rows if r.task is None} == per_layer
    assert {r.metric for r in rows if r.task is not None} == per_task


def test_cosines_of_every_pair_of_tasks():
    """Against torch's own cosine similarity, of residuals whose mean is taken off first."""
    own = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(3))
    layer = layer_with(torch.zeros(3, 5).tolist(), own.tolist())
    rows = [r for r in details([measured(layer)]) if r.metric.startswith("sharing/cosine_with_")]
    centred = (own - own.mean(0)).flatten(1)
    for row in rows:
        other = int(row.metric.rpartition("_")[2])
        expected = torch.nn.functional.cosine_similarity(centred[row.task], centred[other], dim=0)
        assert row.value == pytest.approx(float(expected), abs=1e-6)
    pairs = [(r.task, int(r.metric.rpartition("_")[2])) for r in rows]
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    mean = headline([measured(layer)])["sharing/task_similarity"]
    assert mean == pytest.approx(sum(r.value for r in rows) / 6, abs=1e-6)


def test_a_residual_of_norm_zero_has_no_cosine():
    found = cosines(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]))
    assert found.isnan().tolist() == [[False, True, False], [True, True, True], [False, True, False]]
    assert found[0, 2] == 0
