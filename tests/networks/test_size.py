"""Parameters and work of networks, against counts by hand."""

import pytest
import torch
from helpers import make_policy
from torch import nn

from varshare_pl.networks.size import Size, active_parameters, network_sizes, parameter_rows, row_flops, total_size
from varshare_pl.sharing import SharedLinear, TaskLinear, TaskNetwork, method_names

WEIGHTS = 4 * 8 + 8 * 8  # of the hidden layers


def net(outputs):
    """Weights and biases of one multilayer perceptron."""
    return WEIGHTS + 8 * outputs, 8 + 8 + outputs


@pytest.mark.parametrize("suite", ["ComplexCartPole", "MirroredCartPole", "CartPole"])
@pytest.mark.parametrize("method", ["varshare", "shared", "shared_onehot", "independent"])
def test_sizes(method, suite):
    """MirroredCartPole has as many tasks as actions, so a shared head has M rows."""
    policy = make_policy(suite, method_names()[method]())
    tasks = policy.num_tasks
    sizes = network_sizes(policy, 4)
    assert list(sizes) == ["actor", "critic"]
    for outputs, size in zip((2, 1), sizes.values(), strict=True):
        weights, biases = net(outputs)
        stored, active = {
            "varshare": ((1 + 2 * tasks) * weights + biases, 2 * weights + biases),
            "shared": (weights + biases, weights + biases),
            "shared_onehot": (weights + biases + 8 * tasks, weights + biases + 8),
            "independent": (tasks * (weights + biases), weights + biases),
        }[method]
        assert size == Size(stored, active, 2 * weights)
    total = total_size(sizes.values())
    rows = parameter_rows(policy)
    assert total.stored == sum(p.numel() for p in policy.parameters()) == sum(row.count for row in rows)
    assert total.flops == sizes["actor"].flops + sizes["critic"].flops
    assert rows[0].network == "actor"
    assert rows[0].name.startswith("layer_1.")


def test_counting_leaves_no_trace():
    policy = make_policy("ComplexCartPole")
    before = torch.get_rng_state()
    weights = [p.detach().clone() for p in policy.parameters()]
    first = network_sizes(policy, 4)
    assert all(p.grad is None for p in policy.parameters())
    with torch.no_grad():
        assert network_sizes(policy, 4) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, two) for one, two in zip(weights, policy.parameters(), strict=True))


class Mixed(TaskNetwork):
    """One stack by task, one not, one never read, and a layer that counts itself."""

    def __init__(self):
        super().__init__(3)
        self.own = nn.Parameter(torch.ones(3, 4, 2))
        self.common = nn.Parameter(torch.ones(3, 4))
        self.unread = nn.Parameter(torch.ones(3, 5))
        self.told: TaskLinear = SharedLinear(2, 2, 3)
        self.told.active_parameters = lambda: 1

    def prepare(self, group_task, noise=None):
        return [self.own[group_task] + self.told.weight.sum(), self.common]

    def compute(self, prepared, x):
        own, common = prepared
        return x @ own @ common[:2, :2]


def test_the_rule():
    network = Mixed()
    assert active_parameters(network, 4) == 4 * 2 + 3 * 4 + 0 + 1
    assert row_flops(network, 4) == 2 * (4 * 2 + 2 * 2)
    network.active_parameters = lambda: 17  # the outer one answers for all
    assert active_parameters(network, 4) == 17
