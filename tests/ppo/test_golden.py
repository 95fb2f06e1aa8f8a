"""Numbers written down once: a change here is a change of every result, and must be meant.

Fixed seeds, float32 on a CPU; the tolerance leaves room for another order of additions.
"""

import pytest
import torch
from helpers import VARIANTS, fit, randn

from varshare_pl.sharing import method_names

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")} | VARIANTS

# Method: sum of the actor's outputs after one update, KL in nats, gradient norm, total loss.
GOLDEN = {
    "varshare": (-0.0217080861, 78.3145905, 12.4981957, 28.0365753),
    "shared": (-0.0199188329, 0.0, 11.6890335, 25.6631584),
    "shared_onehot": (-0.013741754, 0.0, 10.6926622, 25.6737022),
    "independent": (-0.0150054842, 0.0, 5.60425425, 25.7782974),
    "care": (-0.0114488723, 0.0, 15.0150609, 23.0723305),
    "film": (-0.0198323112, 0.0, 12.4331831, 25.4297943),
    "moore": (0.0126070343, 0.0, 16.0628608, 25.3489933),
    "mixture": (0.0528021343, 0.0, 6.28792075, 25.5729485),
    "multi_head": (-0.0109696314, 0.0, 4.38590182, 25.3448105),
    "paco": (0.0688785315, 0.0, 7.27309714, 25.4691124),
    "shared_embedding": (-0.0110720098, 0.0, 12.5836914, 25.6959457),
    "soft_modularization": (-0.0127309859, 0.0, 10.5293285, 25.269762),
    "varshare layers": (-0.0218452513, 30.7206688, 11.7921748, 25.6167336),
    "varshare task_bias": (-0.0252747089, 78.112915, 13.5913489, 27.7585182),
    "varshare deterministic": (-0.0219315067, 10.3863773, 11.8222161, 25.5092831),
    "varshare learned_prior": (-0.0217080154, 75.6271439, 12.4982295, 28.0360603),
    "varshare rank": (0.0139306914, 74.2825012, 11.7272682, 25.7456779),
    "varshare rank, layers, task_bias": (0.0154592805, 58.0794678, 12.1688189, 27.8914089),
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
    if method not in GOLDEN:
        pytest.skip("its numbers are not written down yet")
    assert numbers(method) == pytest.approx(GOLDEN[method], rel=1e-4, abs=1e-6)
