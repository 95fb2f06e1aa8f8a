"""Training loops: Stable-Baselines3's, ours in Lightning, ours without it; and the limit set by matrix products."""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.cases import CPU_SPEED, EPOCHS, SETTINGS, SPEED, START, UPDATE, Figures, NotAvailableError, Setting
from benchmarks.flops import gemm_rate, update_flops
from varshare_pl.envs import TaskSpec, TaskSuite, get_suite, make_vector_env
from varshare_pl.envs.physics.cartpole import CartPole, CartPolePhysics
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.collector import Collector
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.sharing import method_names


def stable_baselines3(scale: float, setting: str) -> Figures:
    """Stable-Baselines3's PPO on CartPole-v1; every option stands here, so that its defaults may change."""
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
    except ImportError as error:
        raise NotAvailableError("Stable-Baselines3 is not installed") from error
    quiet()
    sizes = SETTINGS[setting]
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=sizes.num_envs, seed=1),
        n_steps=sizes.rollout_steps,
        batch_size=sizes.minibatch_size,
        n_epochs=EPOCHS,
        learning_rate=5e-3,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=None,
        normalize_advantage=True,
        ent_coef=0.01,
        vf_coef=0.5,
        max_grad_norm=0.5,
        device="cpu",
        seed=1,
        policy_kwargs={
            "net_arch": {"pi": [sizes.width] * 2, "vf": [sizes.width] * 2},
            "activation_fn": torch.nn.Tanh,
        },
    )
    model.learn(sizes.warmup * sizes.rows)
    steps = timed_rollouts(sizes, scale) * sizes.rows
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {SPEED: steps / (time.perf_counter() - start)}


def fit(scale: float, setting: str, method: str, compiled: bool = False, gemm: bool = False) -> Figures:
    """Our Lightning fit loop; ``gemm`` adds the share of the limit that its update reaches."""
    quiet()
    sizes = SETTINGS[setting]
    data, module = build(sizes, timed_rollouts(sizes, scale), method, compiled)
    products = (sizes.minibatch_size, sizes.width)
    rates = [gemm_rate(*products)] if gemm else []
    figures = train(data, module, sizes.warmup)
    if gemm:
        rates.append(gemm_rate(*products))  # before and after, should the machine's speed drift
        rate = statistics.mean(rates)
        figures["gemm_gflops"] = rate / 1e9
        figures["gemm_share"] = gemm_share(module, sizes, figures, rate)
    return figures


def gemm_share(module: PPOModule, sizes: Setting, figures: Figures, rate: float) -> float:
    """The share of a rate of matrix products, in operations per second, that the updates reached."""
    layers = [(net, layer.in_features, layer.out_features) for net, _, layer in module.policy.layers()]
    return update_flops(layers, sizes.rows, EPOCHS) / figures[UPDATE] / rate


def bare_loop(scale: float, setting: str, method: str) -> Figures:
    """The same functions without Lightning."""
    quiet()
    sizes = SETTINGS[setting]
    timed = timed_rollouts(sizes, scale)
    data, module = build(sizes, timed, method)
    module.configure_optimizers()
    collector = Collector(make_vector_env(data.suite, data.num_envs, seed=data.seed), data.suite.num_tasks)
    start = 0.0
    for index in range(sizes.warmup + timed):
        if index == sizes.warmup:
            start = time.perf_counter()
        rollout = collector.collect(module.acting_policy(index), data.rollout_steps, index)
        module.learn(rollout)
    return {SPEED: timed * sizes.rows / (time.perf_counter() - start)}


def build(sizes: Setting, timed: int, method: str, compiled: bool = False) -> tuple[RolloutDataModule, PPOModule]:
    """Data and module of a setting."""
    for_data: dict[str, Any] = {}
    for_model: dict[str, Any] = {}
    if compiled:
        for_data, for_model = {"backend": "torch"}, {"compile": True}
    suite: Any = cartpoles(sizes.suite) if isinstance(sizes.suite, int) else sizes.suite
    total = (sizes.warmup + timed) * sizes.rows
    data = RolloutDataModule(suite, sizes.num_envs, sizes.rollout_steps, total, **for_data)
    for_model |= {"normalize_observations": "none", "normalize_rewards": "none"}  # as configs/complex_cartpole.yaml
    for_model |= {"hidden_sizes": (sizes.width, sizes.width), "update_epochs": EPOCHS}
    sharing = method_names()[method]()
    return data, PPOModule(data.spec, data.plan, sharing, minibatch_size=sizes.minibatch_size, **for_model)


def train(data: RolloutDataModule, module: PPOModule, warmup: int, **options: Any) -> Figures:
    """Fit with no callback but a clock; ``options`` go to the Trainer."""
    clock = Clock()
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    settings: dict[str, Any] = (
        dict.fromkeys(off, False) | {"accelerator": "cpu", "devices": 1, "max_epochs": 1} | options
    )
    trainer = Trainer(callbacks=[clock], **settings)
    clock.called = time.perf_counter()
    trainer.fit(module, datamodule=data)
    steps = (data.num_rollouts - warmup) * data.plan.rows
    return {
        SPEED: steps / (clock.ends[-1] - clock.ends[warmup - 1]),
        CPU_SPEED: steps / (clock.cpu[-1] - clock.cpu[warmup - 1]),
        START: clock.ends[warmup - 1] - clock.called,
        UPDATE: statistics.median(clock.updates[warmup:]),
    }


class Clock(Callback):
    """When each rollout's update ended, and how long it took."""

    def __init__(self) -> None:
        self.called = 0.0
        self.ends: list[float] = []
        self.cpu: list[float] = []  # processor seconds at each end
        self.updates: list[float] = []
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.updates.append(self.ends[-1] - self._start)


def cartpoles(count: int) -> TaskSuite:
    """So many CartPoles, no two alike, spread evenly over the same range of physics whatever their number."""
    like = get_suite("CartPole")
    tasks = []
    for k in range(count):
        # Multiples of irrational numbers fill the unit square evenly.
        u, v = (k * 0.7548776662) % 1.0, (k * 0.5698402910) % 1.0
        tasks.append(CartPolePhysics(gravity=6.0 + 6.0 * u, half_length=0.25 + 0.75 * v))
    dynamics = CartPole(tasks)
    specs = tuple(TaskSpec(f"cartpole {k}", like.tasks[0].env_id, {"task": 0}) for k in range(count))
    return TaskSuite(f"CartPoles{count}", specs, dynamics.observation_space, dynamics.action_space, dynamics=dynamics)


def timed_rollouts(sizes: Setting, scale: float) -> int:
    return max(1, round(sizes.timed * scale))


def quiet() -> None:
    """One thread, and nothing but figures on the terminal."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
