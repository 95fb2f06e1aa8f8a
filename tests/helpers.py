"""Small things that several tests need."""

import importlib
import multiprocessing.forkserver
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.learning.weight_noise import make_actor_noise, make_critic_noise
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.layer import TaskLinear
from varshare_pl.networks.network import TaskNetwork
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.networks.options import ActionOptions, NetworkOptions, NormalisationOptions
from varshare_pl.ppo.losses import StepInput, kl_scale
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.update import PlainSteps, StepsTaken, build_rows, step_inputs
from varshare_pl.rollout.collector import Collector
from varshare_pl.rollout.minibatches import task_weights
from varshare_pl.sharing import Independent, Shared, SharedOneHot, SharingMethod, VarShare, method_names
from varshare_pl.sharing.varshare import VarShareLowRank
from varshare_pl.types import EnvSpec, Record, Rollout

torch.set_num_threads(1)

DOCS = Path(__file__).parents[1] / "docs"
ACTIONS = tuple(field.name for field in fields(ActionOptions))

METHODS = {"varshare": VarShare, "shared": Shared, "shared_onehot": SharedOneHot, "independent": Independent}

# No normalisation, of which each option has tests of its own; numbers that are written down are without.
PLAIN = {"normalize_observations": "none", "normalize_rewards": "none"}
PLAIN_ARGS = [f"--model.{option}={scope}" for option, scope in PLAIN.items()]

# Every method of the package; a new one is found by itself.
ALL_METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}

# VarShare with each of its options that changes the layers.
VARIANTS: dict[str, Callable[[], SharingMethod]] = {
    "varshare layers": partial(VarShare, layers=[0, "head"]),
    "varshare task_bias": partial(VarShare, task_bias=True),
    "varshare_low_rank layers, task_bias": partial(VarShareLowRank, rank=2, layers="last 2", task_bias=True),
}


# Where tests marked gpu run; "cpu" tries the tests themselves where there is none.
ACCELERATOR = os.environ.get("VARSHARE_TEST_ACCELERATOR", "gpu")
_NO_GPU = ACCELERATOR == "gpu" and not torch.cuda.is_available()
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(_NO_GPU, reason="needs a GPU")]


def docs_script(name: str) -> Any:
    """A module beside the pages of docs, which is no package."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def drawn(layer: TaskLinear, gain: float = 1.0, seed: int = 0) -> Any:
    """A layer with its initial weights, which a network's constructor else draws."""
    layer.reset_parameters(gain, generator(seed))
    return layer


def perturb(module: torch.nn.Module, scale: float = 0.3, seed: int = 7) -> None:
    """Move every parameter away from its special start (zeros, orthogonal matrices)."""
    g = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=g, dtype=torch.float64).to(parameter.dtype))


def weight_noises(network: TaskNetwork, seed: int = 1) -> list[Tensor | None]:
    """A draw of the weights for each of a network's layers."""
    g = generator(seed)
    return [weight_noise(layer, g) for _, layer in network.layers()]


def local_noises(network: TaskNetwork, groups: int, rows: int, seed: int = 1) -> list[LocalNoise | None]:
    """Local noise for each of a network's layers."""
    g = generator(seed)
    return [local_noise(layer, groups, rows, g) for _, layer in network.layers()]


def readme_example() -> str:
    """The module ``task_bias``, with a method, that the README shows."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: task_bias.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def random_actions(space: Any, steps: int, envs: int, seed: int = 0) -> Any:
    """(steps, envs, *action) any actions of a space."""
    rng = np.random.default_rng(seed)
    if isinstance(space, Box):
        return rng.uniform(space.low, space.high, (steps, envs, *space.shape)).astype(space.dtype)
    return rng.integers(0, space.n if isinstance(space, Discrete) else space.nvec, (steps, envs, *space.shape))


def trace(function: Any, arguments: Any, name: str) -> Any:
    """In place of the compiler: the graph that it would get, run by torch."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with warnings.catch_warnings(action="ignore"):
        return make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)


def option_names(options: Any) -> str:
    """The id of a test with these options: an object by its class, for its address differs between processes."""
    return re.sub(r"<(?:\w+\.)*(\w+) object at \w+>", r"\1", str(options))


def make_policy(
    suite: str | EnvSpec, method: SharingMethod | None = None, seed: int = 1, **options: Any
) -> ActorCritic:
    """Small networks, without normalisation; the options are those of networks, actions and normalisation."""
    spec = suite if isinstance(suite, EnvSpec) else get_suite(suite).env_spec()
    own = {name for name in options if name.startswith("normalize_") or name == "popart"}
    normalisation = NormalisationOptions(**PLAIN | {name: options.pop(name) for name in own})
    actions = ActionOptions(**{name: options.pop(name) for name in list(options) if name in ACTIONS})
    network = NetworkOptions(**{"hidden_sizes": (8, 8), **options})
    return ActorCritic(spec, method or VarShare(), network, normalisation, actions, seed)


def collect(
    policy: ActorCritic, suite: Any, num_envs: int, steps: int, rollouts: int = 1, mode: Any = "rollout", **options: Any
) -> list[Rollout]:
    """Real rollouts of one policy that is not trained."""
    suite = get_suite(suite)
    info_metrics = options.pop("info_metrics", ())
    collector = Collector(make_vector_env(suite, num_envs, seed=3, **options), suite.num_tasks, info_metrics)
    try:
        noise = make_actor_noise(mode, policy.actor, seed=1)
        return [collector.collect(ActingPolicy(policy, noise, 1, k), steps, k) for k in range(rollouts)]
    finally:
        collector.close()


def inputs_of(policy: ActorCritic, rollout: Rollout, number: int = 4, **options: Any) -> Iterator[StepInput]:
    """The minibatches of an update, each with its noise; ``number`` of them in an epoch."""
    own = Options(**options)
    actor_noise = make_actor_noise(own.actor_noise, policy.actor, own.seed)
    critic_noise = make_critic_noise(own.critic_noise, policy.critic, own.seed)
    rows, groups = build_rows(policy, rollout, own, actor_noise)
    weight = task_weights(rows["task"], policy.num_tasks)
    return step_inputs(rows, groups, weight, rollout.index, number, own, actor_noise, critic_noise, own.seed)


def update(policy: ActorCritic, rollout: Rollout, number: int = 4, **options: Any) -> StepsTaken:
    """One update of a policy."""
    own = Options(**options)
    steps = PlainSteps(policy, build_optimizer(policy, own), own, own.max_grad_norm)
    inputs = inputs_of(policy, rollout, number, **options)
    return steps.run(inputs, kl_scale(own.kl_weight, policy), rollout.index)


@dataclass
class Run:
    """A short run with a real Trainer, when it is over."""

    module: Any
    trainer: Any
    records: list[Record]


def fit(
    data: dict[str, Any] | None = None,
    callbacks: Any = (),
    trainer: dict[str, Any] | None = None,
    ckpt_path: Any = None,
    **model: Any,
) -> Run:
    """Train for a few rollouts; ``data``, ``trainer`` and the rest are options of the three Lightning classes.

    Nothing is normalised unless it is asked for.
    """
    import lightning.pytorch as pl

    from varshare_pl.ppo.module import PPOModule
    from varshare_pl.rollout.datamodule import RolloutDataModule

    records: list[Record] = []

    class Recorder(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            records.append(outputs["record"])

    sizes = {"suite": "MirroredCartPole", "num_envs": 4, "rollout_steps": 32, "total_env_steps": 3 * 128}
    datamodule = RolloutDataModule(**{**sizes, **(data or {})})
    sizes_of_model = {"hidden_sizes": (8, 8), "minibatch_size": 64, "update_epochs": 2}
    options = {"sharing": VarShare(), **PLAIN, **sizes_of_model, **model}
    module = options.pop("module_class", PPOModule)(datamodule.spec, datamodule.plan, **options)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    settings = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "devices": 1, "max_epochs": 1} | (trainer or {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.(utilities|trainer)")
        runner = pl.Trainer(callbacks=[*callbacks, Recorder()], num_sanity_val_steps=0, **settings)
        runner.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    return Run(module, runner, records)


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def end_fork_server() -> None:
    """Have the next process start a server of its own: another test's has other imports and another environment."""
    multiprocessing.forkserver._forkserver._stop()
