"""Pruning in the gauge where the residuals average to 0."""

import pytest
import torch
from helpers import generator, perturb, randn

from varshare_pl.sharing import NetworkSpec, Shared, VarShare
from varshare_pl.sharing.varshare import VarShareDeterministic, VarShareLearnedPrior, VarShareLowRank
from varshare_pl.sharing.varshare.pruning import mean_log_var, prunable_layers, prune_

M, IN, OUT = 3, 4, 5
TASK = torch.tensor([2, 0, 1, 2, 0])


def make(method=None):
    network = (method or VarShare()).make_network(NetworkSpec("actor", IN, (8, 8), OUT, M), generator()).double()
    perturb(network)
    return network


def test_threshold_0_changes_no_output():
    network, x = make(), randn(5, IN)
    before = network(x, TASK)
    for layer in prunable_layers(network).values():
        assert prune_(layer, 0.0).tolist() == [layer.num_variational] * M
        torch.testing.assert_close(layer.mu.mean(0), torch.zeros_like(layer.theta))
    torch.testing.assert_close(network(x, TASK), before)


def test_a_large_threshold_leaves_what_sharing_alone_achieves():
    network, x, tasks = make(), randn(1, 5, IN).expand(M, -1, -1), torch.arange(M)
    expected = network.compute(network.prepare_shared(tasks), x)
    for layer in prunable_layers(network).values():
        assert prune_(layer, 1e9).tolist() == [0] * M
    torch.testing.assert_close(network.compute(network.prepare(tasks), x), expected)


def test_what_all_tasks_have_in_common_is_no_difference():
    """With raw μ, each of these would be far from 0 and all would stay."""
    layer = make().stack["layer_1"]
    with torch.no_grad():
        layer.mu.fill_(5.0)
        layer.mu[0, 0, 0] += 3.0
        layer.log_var.zero_()  # σ = 1
    theta = layer.theta.clone()
    assert prune_(layer, 1.5).tolist() == [1, 0, 0]  # μ̃ is 2, −1, −1 there
    torch.testing.assert_close(layer.mu[0, 0, 0].item(), 2.0)
    torch.testing.assert_close(layer.theta[1:], theta[1:] + 5.0)
    torch.testing.assert_close(layer.theta[0, 0].item(), theta[0, 0].item() + 6.0)


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_an_entry_stays_where_it_is_as_large_as_its_own_sigma_times_the_threshold(threshold):
    layer = make().stack["layer_1"]
    (_, mu), sigma = layer.shared_and_residual(), layer.sigma()
    left = prune_(layer, threshold)
    for m in range(M):
        for i, j in torch.cartesian_prod(torch.arange(8), torch.arange(IN)).tolist():
            stays = abs(mu[m, i, j].item()) >= threshold * sigma[m, i, j].item()
            assert layer.mu[m, i, j].item() == (pytest.approx(mu[m, i, j].item()) if stays else 0.0)
    assert left.tolist() == [int(layer.mu[m].count_nonzero()) for m in range(M)]


def test_the_mean_variance_is_kept():
    layer = make().stack["head"]
    expected = layer.sigma().square().flatten(1).mean(1).log()
    torch.testing.assert_close(mean_log_var(layer), expected.view(M, 1, 1))


def test_what_can_be_pruned():
    assert list(prunable_layers(make())) == ["stack.layer_1", "stack.layer_2", "stack.head"]
    assert list(prunable_layers(make(VarShareLearnedPrior(layers=["head"])))) == ["stack.head"]
    assert not prunable_layers(make(VarShareDeterministic()))
    assert not prunable_layers(make(VarShareLowRank()))
    assert not prunable_layers(make(Shared()))
