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
    "varshare": (-0.0197713394, 77.5137558, 12.5867749, 28.0571747),
    "varshare_deterministic": (-0.0164204873, 9.15772057, 11.9177683, 25.5435905),
    "varshare_low_rank": (0.0645518675, 129.089554, 11.3784921, 25.710783),
    "varshare_learned_prior": (-0.0197725445, 74.7897797, 12.5868096, 28.056654),
    "varshare_controlled_prior": (-0.0197713319, 77.5137558, 12.5867749, 28.0571747),
    "shared": (-0.0150066614, 0.0, 11.7542636, 25.6718845),
    "shared_onehot": (-0.00706809759, 0.0, 10.7419751, 25.6844063),
    "independent": (-0.0125555657, 0.0, 5.61562565, 25.8075752),
    "care": (0.0179992244, 0.0, 15.0209733, 23.0710602),
    "film": (-0.0147229452, 0.0, 12.5104538, 25.4385757),
    "moore": (0.012375528, 0.0, 15.7074862, 25.3692589),
    "mixture": (0.0516278669, 0.0, 6.32273112, 25.6058502),
    "multi_head": (-0.011246331, 0.0, 4.39360673, 25.3533859),
    "paco": (0.0652984381, 0.0, 7.27187495, 25.4886131),
    "shared_embedding": (0.00184947252, 0.0, 12.595091, 25.7003059),
    "soft_modularization": (-0.0098574385, 0.0, 10.6483693, 25.3166294),
    "varshare layers": (-0.0166678932, 30.7330627, 11.8641633, 25.6375999),
    "varshare task_bias": (-0.0196282342, 77.3375549, 13.6756486, 27.7782421),
    "varshare_low_rank layers, task_bias": (0.0222713463, 57.9390678, 12.3304366, 27.9447098),
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
