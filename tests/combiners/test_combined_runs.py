"""Runs with combiners: numbers written down once, options, exact resume."""

import functools

import pytest
import torch
from helpers import fit, randn

from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.combiners import combiner_names
from varshare_pl.errors import ConfigError
from varshare_pl.sharing import SharedOneHot

COMBINERS = {name: cls for name, cls in combiner_names().items() if cls.__module__.startswith("varshare_pl.")}
DATA = {"suite": "ComplexCartPole", "num_envs": 5, "total_env_steps": 160}

# Combiner: sum of the actor's outputs after one update of VarShare, KL in nats, gradient norm, total loss.
GOLDEN = {
    "mean": (-0.019771371, 77.5137482, 12.5867752, 28.0571728),
    "pcgrad": (-0.0364810191, 77.4863129, 12.5864631, 28.0571575),
    "graddrop": (-0.204622522, 77.5591812, 12.6485408, 28.0986176),
    "cagrad": (-0.0244122278, 77.3462143, 18.5746147, 28.061554),
    "mgda": (-0.0401576422, 77.599205, 9.50108826, 28.1920872),
    "imtl_g": (-0.0381366052, 77.4873886, 4.65436493, 28.6133842),
    "aligned_mtl": (-0.0269793384, 77.9860992, 2.35141603, 28.1738605),
    "grad_norm": (-0.0199703351, 77.5148087, 12.5391488, 28.0571327),
    "random_loss": (-0.0149607062, 75.8090363, 12.274537, 28.15098),
    "dwa": (-0.019771345, 77.5137558, 12.5867749, 28.0571728),
    "uncertainty": (-0.0197322667, 77.4899521, 12.4054975, 28.0571728),
    "famo": (-0.0192431379, 77.4657059, 11.6816756, 28.1204052),
    "nash_mtl": (-0.0387853868, 77.7068863, 2.71482312, 28.0797958),
}


def run(name, **options):
    return fit(DATA, combiner=COMBINERS[name](), minibatch_size=80, **options)


def numbers(name):
    done = run(name)
    policy, metrics = done.module.policy, done.records[0].metrics
    with torch.no_grad():
        outputs = policy.actor(randn(10, 4, dtype=torch.float32), torch.arange(10) % 5)
    weights = torch.linspace(0.5, 1.5, outputs.numel()).view_as(outputs)
    return (
        (outputs * weights).sum().item(),
        metrics["kl/posterior"],
        metrics["diagnostics/grad_norm"],
        metrics["loss/total"],
    )


@pytest.mark.parametrize("name", COMBINERS)
def test_golden(name):
    solved = name in ("cagrad", "nash_mtl", "imtl_g", "aligned_mtl")  # up to a tolerance, or by small eigenvalues
    assert numbers(name) == pytest.approx(GOLDEN[name], rel=1e-3 if solved else 1e-4, abs=1e-6)


OPTIONS = [
    ("cagrad", {"c": 0.1}),
    ("cagrad", {"norm_eps": 10.0}),
    ("mgda", {"epsilon": 0.9}),
    ("mgda", {"max_iters": 1}),
    ("aligned_mtl", {"scale_mode": "rmse"}),
    ("nash_mtl", {"max_norm": 0.1}),
    ("grad_norm", {"alpha": 0.1}),
    ("grad_norm", {"lr": 0.3}),
    ("grad_norm", {"actor_floor": -9.0}),
    ("dwa", {"temperature": 0.1}),
    ("dwa", {"actor_floor": -9.0}),
    ("uncertainty", {"lr": 0.3}),
    ("uncertainty", {"actor_floor": -9.0}),
    ("famo", {"lr": 0.3}),
    ("famo", {"weight_decay": 5.0}),
    ("famo", {"actor_floor": -9.0}),
]


def trained(name, **option):
    data = DATA | {"total_env_steps": 960}
    run = fit(data, combiner=COMBINERS[name](**option), minibatch_size=80, sharing=SharedOneHot())
    return list(run.module.policy.parameters())


trained_with_defaults = functools.cache(trained)  # which several options are compared with


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_an_option_changes_the_weights(name, option):
    pairs = zip(trained_with_defaults(name), trained(name, **option), strict=True)
    assert not all(torch.equal(one, two) for one, two in pairs)


def folder(path):
    (path / "checkpoints").mkdir(parents=True)
    return {"default_root_dir": path, "enable_checkpointing": True}


@pytest.mark.parametrize("name", ["pcgrad", "nash_mtl", "grad_norm", "uncertainty", "famo", "dwa"])
def test_a_run_goes_on_bit_by_bit(tmp_path, name):
    data = DATA | {"total_env_steps": 4 * 160}
    whole = fit(data, [Checkpoint(2)], folder(tmp_path / "run"), combiner=COMBINERS[name](), minibatch_size=80)
    path = tmp_path / "run" / "checkpoints" / "previous.ckpt"
    state = torch.load(path, weights_only=True)["varshare"]
    assert state["combiner"] == name
    assert state["env_steps"] == 320
    rest = fit(data, ckpt_path=path, combiner=COMBINERS[name](), minibatch_size=80)
    assert len(rest.records) == 2
    for one, two in zip(whole.module.parameters(), rest.module.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(ConfigError, match=f"the checkpoint has combiner {name}, the config has mgda"):
        fit(data, ckpt_path=path, combiner=COMBINERS["mgda"](), minibatch_size=80)


def test_seeds_draw_differently():
    runs = [run("graddrop", seed=seed).module.combining for seed in (1, 2)]
    places = [("actor", 0, 0), ("critic", 0, 0), ("actor", 1, 0), ("actor", 0, 1)]
    assert len({combining.draw(*place) for combining in runs for place in places}) == 8
