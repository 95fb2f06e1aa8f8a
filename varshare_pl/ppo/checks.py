"""What a run's options do not allow of one another, or of the device; told before anything is trained."""

from __future__ import annotations

import warnings

import torch

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.types import RolloutPlan


def warn_of_fresh_noise(mode: str, has_noise: bool) -> None:
    """Say what is odd about acting and learning with different weight noise."""
    if mode == "fresh" and has_noise:
        warnings.warn(
            "model.actor_noise=fresh: acting and update use different weight noise, so PPO's ratio is not 1 before "
            "any step; for comparison only",
            stacklevel=3,
        )


def count_minibatches(plan: RolloutPlan, size: int | None, number: int | None) -> int:
    """Minibatches of a pass over a rollout, from their size or their number.

    Raises:
        ConfigError: if both or none of them is given, or rollouts do not split so.
    """
    if size is not None and number is not None:
        raise ConfigError(
            f"model.num_minibatches: {number} is not allowed beside model.minibatch_size {size}; one of them is, with "
            "null for the other"
        )
    name, parts = ("minibatch_size", size) if number is None else ("num_minibatches", number)
    if parts is None:
        raise ConfigError(
            "model.minibatch_size: null is not allowed without model.num_minibatches; one of them is needed"
        )
    if plan.rows % parts:
        raise ConfigError(
            f"model.{name}: {parts} is not allowed; a divisor of data.rollout_steps × data.num_envs = {plan.rows} is"
        )
    return plan.rows // parts if number is None else parts


def check_compile(plan: RolloutPlan, num_tasks: int, combining: bool) -> None:
    """Raise ConfigError if a run's gradient steps cannot be compiled."""
    if not plan.tasks_fixed:
        raise ConfigError(
            "model.compile: true is not allowed where envs change their tasks; make data.num_envs a multiple of the "
            f"suite's {num_tasks} tasks"
        )
    if combining:
        raise ConfigError("model.compile: true is not allowed with model.combiner; false is")


def check_precision(precision: str, scaled: bool, combining: bool) -> None:
    """Raise ConfigError for a trainer.precision that the optimizer, or a combiner, cannot do with.

    Args:
        precision: Lightning's name of it.
        scaled: Whether it scales the loss.
        combining: Whether the tasks' gradients are combined.
    """
    if combining and scaled:
        raise ConfigError(f"trainer.precision: {precision} is not allowed with model.combiner; bf16-mixed is")
    if precision in ("16-true", "bf16-true"):
        raise ConfigError(
            f"trainer.precision: {precision} is not allowed, the optimizer's steps would be lost in so few digits; "
            "32-true, 64-true, bf16-mixed and 16-mixed are"
        )


def check_device(device: torch.device, policy: ActorCritic) -> None:
    """Raise ConfigError if the device has not the numbers that observations are normalised in."""
    if device.type == "mps" and policy.obs_dtype == torch.float64:
        raise ConfigError(
            "model.normalize_observations: only none is allowed for float64 observations on an Apple GPU, which has no "
            "float64; or trainer.accelerator=cpu"
        )
