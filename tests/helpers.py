"""Small things that several tests need."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varshare_pl.envs import TaskSuite, get_suite, make_vector_env
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.behaviour import Behaviour
from varshare_pl.rollout.collector import Collector
from varshare_pl.sharing import Independent, Shared, SharedOneHot, SharingMethod, VarShare
from varshare_pl.types import EnvSpec, Record, Rollout

torch.set_num_threads(1)

METHODS = {"varshare": VarShare, "shared": Shared, "shared_onehot": SharedOneHot, "independent": Independent}

# VarShare with each of its options that changes the layers.
VARIANTS: dict[str, Callable[[], VarShare]] = {
    "varshare layers": partial(VarShare, layers=[0, "head"]),
    "varshare task_bias": partial(VarShare, task_bias=True),
    "varshare deterministic": partial(VarShare, deterministic=True),
    "varshare learned_prior": partial(VarShare, learned_prior=True),
    "varshare rank": partial(VarShare, rank=2),
    "varshare rank, layers, task_bias": partial(VarShare, rank=2, layers="last 2", task_bias=True),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def perturb(module: torch.nn.Module, scale: float = 0.3, seed: int = 7) -> None:
    """Move every parameter away from its special start (zeros, orthogonal matrices)."""
    g = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=g, dtype=torch.float64).to(parameter.dtype))


def readme_example() -> str:
    """The module ``task_bias``, with a method, that the README shows."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: task_bias.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


def option_names(options: Any) -> str:
    """The id of a test with these options: an object by its class, for its address differs between processes."""
    return re.sub(r"<(?:\w+\.)*(\w+) object at \w+>", r"\1", str(options))


def make_spec(suite: TaskSuite, rollout_rows: int, num_rollouts: int = 3) -> EnvSpec:
    shape = tuple(suite.observation_space.shape)
    return EnvSpec(suite.name, suite.num_tasks, shape, suite.num_actions, rollout_rows, num_rollouts)


def make_policy(suite_name: str, method: SharingMethod | None = None, **options: Any) -> ActorCritic:
    spec = make_spec(get_suite(suite_name), rollout_rows=1)
    return ActorCritic(spec, method or VarShare(), **{"hidden_sizes": (8, 8), **options})


def collect(
    policy: ActorCritic, suite: Any, num_envs: int, steps: int, rollouts: int = 1, mode: Any = "rollout", **options: Any
) -> list[Rollout]:
    """Real rollouts of one policy that is not trained."""
    suite = get_suite(suite)
    info_metrics = options.pop("info_metrics", ())
    collector = Collector(make_vector_env(suite, num_envs, seed=3, **options), suite.num_tasks, info_metrics)
    try:
        device = torch.device("cpu")
        return [collector.collect(Behaviour(policy, mode, 1, k, device), steps, k) for k in range(rollouts)]
    finally:
        collector.close()


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
    """Train for a few rollouts; ``data``, ``trainer`` and the rest are options of the three Lightning classes."""
    import lightning.pytorch as pl

    from varshare_pl.ppo.module import PPOModule
    from varshare_pl.rollout.datamodule import RolloutDataModule

    records: list[Record] = []

    class Recorder(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            records.append(outputs["record"])

    sizes = {"suite": "MirroredCartPole", "num_envs": 4, "rollout_steps": 32, "total_env_steps": 3 * 128}
    datamodule = RolloutDataModule(**{**sizes, **(data or {})})
    options = {"sharing": VarShare(), "hidden_sizes": (8, 8), "minibatch_size": 64, "update_epochs": 2, **model}
    module = options.pop("module_class", PPOModule)(datamodule.spec, **options)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    settings = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "devices": 1, "max_epochs": 1} | (trainer or {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.(utilities|trainer)")
        runner = pl.Trainer(callbacks=[*callbacks, Recorder()], num_sanity_val_steps=0, **settings)
        runner.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    return Run(module, runner, records)


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}
