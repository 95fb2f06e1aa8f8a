"""What is measured: each case is a function that gives env steps per second of a training loop or an env."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from varshare_pl.envs import make_vector_env
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.optimizer import clip_gradients
from varshare_pl.rollout.collector import Collector
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.sharing import method_names

# The same setting on both sides: 32 envs × 128 steps, minibatch 1,024, 4 epochs, tanh 2×64. Frozen.
WIDE = {"num_envs": 32, "rollout_steps": 128, "minibatch_size": 1024}
# configs/complex_cartpole.yaml.
DEFAULT = {"num_envs": 40, "rollout_steps": 128, "minibatch_size": 1280}
ROLLOUTS = 12  # of which the first two are not timed


def stable_baselines3() -> float:
    """Stable-Baselines3's PPO on CartPole-v1 in the WIDE setting."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env("CartPole-v1", n_envs=WIDE["num_envs"], seed=1)
    rows = WIDE["num_envs"] * WIDE["rollout_steps"]
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=WIDE["rollout_steps"],
        batch_size=WIDE["minibatch_size"],
        n_epochs=4,
        learning_rate=5e-3,
        ent_coef=0.01,
        device="cpu",
        seed=1,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh},
    )
    model.learn(2 * rows)
    start = time.perf_counter()
    model.learn((ROLLOUTS - 2) * rows, reset_num_timesteps=False)
    return (ROLLOUTS - 2) * rows / (time.perf_counter() - start)


def fit(suite: str, method: str, sizes: dict[str, int], callbacks: list[Callback] | None = None) -> float:
    """Our Lightning fit loop."""
    clock = _Clock()
    data, module = _build(suite, method, sizes)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*(callbacks or []), clock],
    )
    trainer.fit(module, datamodule=data)
    return clock.steps_per_second


def bare_loop(suite: str, method: str, sizes: dict[str, int]) -> float:
    """The same functions without Lightning."""
    data, module = _build(suite, method, sizes)
    optimizer = module.configure_optimizers()
    collector = Collector(make_vector_env(data.suite, data.num_envs, seed=data.seed), data.suite.num_tasks)

    def step(loss: torch.Tensor) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = clip_gradients(module.policy, module.max_grad_norm)
        optimizer.step()
        return norms

    start = 0.0
    for index in range(ROLLOUTS):
        if index == 2:
            start = time.perf_counter()
        rollout = collector.collect(module.behaviour(index), data.rollout_steps, index)
        module.learn(rollout, optimizer, step)
    return (ROLLOUTS - 2) * data.spec.rollout_rows / (time.perf_counter() - start)


def env_steps(envs: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int = 2000) -> float:
    """Random actions, autoresets included."""
    envs.reset(seed=1)
    actions = np.random.default_rng(1).integers(0, 2, size=(steps, envs.num_envs))
    start = time.perf_counter()
    for action in actions:
        envs.step(action)
    seconds = time.perf_counter() - start
    envs.close()
    return steps * envs.num_envs / seconds


class _Clock(Callback):
    """Times the loop from the end of the second rollout's update to that of the last."""

    start = 0.0
    steps_per_second = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.start = time.perf_counter()
        elif batch_idx == ROLLOUTS - 1:
            rows = (ROLLOUTS - 2) * pl_module.spec.rollout_rows
            self.steps_per_second = rows / (time.perf_counter() - self.start)


def _build(suite: str, method: str, sizes: dict[str, int]) -> tuple[RolloutDataModule, PPOModule]:
    rows = sizes["num_envs"] * sizes["rollout_steps"]
    data = RolloutDataModule(suite, sizes["num_envs"], sizes["rollout_steps"], ROLLOUTS * rows)
    return data, PPOModule(data.spec, method_names()[method](), minibatch_size=sizes["minibatch_size"])


CASES: dict[str, Callable[[], float]] = {
    "sb3": stable_baselines3,
    "varshare": lambda: fit("ComplexCartPole", "varshare", DEFAULT),
    "shared": lambda: fit("ComplexCartPole", "shared", DEFAULT),
    "shared_wide": lambda: fit("CartPole", "shared", WIDE),
    "varshare_bare": lambda: bare_loop("ComplexCartPole", "varshare", DEFAULT),
    "env_batched": lambda: env_steps(make_vector_env("CartPole", 64, "batched"), 20_000),
    "env_gymnasium_vector": lambda: env_steps(gymnasium.make_vec("CartPole-v1", 64, "vector_entry_point"), 20_000),
    "env_gymnasium_sync": lambda: env_steps(gymnasium.make_vec("CartPole-v1", 64, "sync")),
}
