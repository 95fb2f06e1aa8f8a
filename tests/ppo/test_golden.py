"""Numbers written down once: a change here is a change of every result, and must be meant.

Fixed seeds, float32 on a CPU; the tolerance leaves room for another order of additions.
"""

import pytest
import torch
from helpers import METHODS, fit, randn

# Method: sum of the actor's outputs after one update, KL in nats, gradient norm, total loss.
GOLDEN = {
    "varshare": (-0.0217080861, 78.4345932, 12.4915633, 28.0407124),
    "shared": (-0.0199188329, 0.0, 11.6890335, 25.6631584),
    "shared_onehot": (-0.013741754, 0.0, 10.6926622, 25.6737022),
    "independent": (-0.0150054842, 0.0, 5.60425425, 25.7782974),
}
DATA = {"suite": "ComplexCartPole", "num_envs": 5, "total_env_steps": 160}


def numbers(method):
    run = fit(DATA, sharing=METHODS[method](), minibatch_size=80)
    policy, metrics = run.module.policy, run.records[0].metrics
    with torch.no_grad():
        outputs = policy.actor(randn(10, 4, dtype=torch.float32), torch.arange(10) % 5)
    weights = torch.linspace(0.5, 1.5, outputs.numel()).view_as(outputs)  # so that no two outputs can swap
    kl = metrics.get("kl/posterior", 0.0)
    return (outputs * weights).sum().item(), kl, metrics["diagnostics/grad_norm"], metrics["loss/total"]


@pytest.mark.parametrize("method", METHODS)
def test_golden(method):
    assert numbers(method) == pytest.approx(GOLDEN[method], rel=1e-4, abs=1e-6)
