"""Which kind of gradient steps a run takes: plain ones, combined ones, or machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.combined import CombinedStep, Combining
from varshare_pl.ppo.compiled import CompiledStep
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.optimizer import FlatAdam
from varshare_pl.ppo.step import GradientStep
from varshare_pl.ppo.update import TakesSteps, UpdateOptions
from varshare_pl.types import EnvSpec

SMALL_MINIBATCH = 256  # rows, up to which compiled steps are several in a call


class Stepping:
    """Makes what takes a rollout's gradient steps.

    Args:
        policy: Is trained.
        objective: The loss.
        options: How a rollout is turned into gradient steps.
        spec: Sizes of the task suite and the rollouts.
        max_grad_norm: Of actor and critic each; None: no clipping.
        combining: How the tasks' gradients are combined; None: plain steps.
        compiled: Whether the steps are machine code.

    Raises:
        ConfigError: for what cannot be compiled.
    """

    def __init__(
        self,
        policy: ActorCritic,
        objective: Objective,
        options: UpdateOptions,
        spec: EnvSpec,
        max_grad_norm: float | None,
        combining: Combining | None,
        compiled: bool,
    ) -> None:
        if compiled and not spec.tasks_fixed:
            raise ConfigError(
                "model.compile: true is not allowed where envs change their tasks; make data.num_envs a multiple of "
                f"the suite's {spec.num_tasks} tasks"
            )
        if compiled and combining is not None:
            raise ConfigError("model.compile: true is not allowed with model.combiner; false is")
        self._basis = policy, objective
        self._max_grad_norm = max_grad_norm
        self._combining = combining
        self._compiles = compiled
        rows, count = spec.rollout_rows // options.num_minibatches, options.num_minibatches
        self._together = next(n for n in (4, 2, 1) if count % n == 0) if rows <= SMALL_MINIBATCH else 1
        self._compiled: CompiledStep | None = None

    def check(self, processes: int, precision: str, scaler: Any) -> None:
        """See that the steps can be taken on the devices of a run.

        Args:
            processes: Of the run.
            precision: Lightning's name of it.
            scaler: Of the loss, in 16-bit training.

        Raises:
            ConfigError: if not.
        """
        if self._compiles and (processes > 1 or scaler is not None):
            what = "several processes" if processes > 1 else f"trainer.precision={precision}"
            raise ConfigError(f"model.compile: true is not allowed with {what}")
        if self._combining is not None and scaler is not None:
            raise ConfigError(f"trainer.precision: {precision} is not allowed with model.combiner; bf16-mixed is")
        if precision in ("16-true", "bf16-true"):
            raise ConfigError(
                f"trainer.precision: {precision} is not allowed, the optimizer's steps would be lost in so few digits; "
                "32-true, 64-true, bf16-mixed and 16-mixed are"
            )

    def __call__(self, optimizer: FlatAdam, scaler: Any = None, advance: Callable[[], Any] | None = None) -> TakesSteps:
        """For an optimizer; scaler and advance as ``GradientStep`` takes them."""
        if self._compiles:
            if self._compiled is None or self._compiled.optimizer is not optimizer:
                self._compiled = self.compiled(optimizer)
            return self._compiled
        if self._combining is not None:
            return CombinedStep(*self._basis, optimizer, self._max_grad_norm, self._combining)
        return self.eager(optimizer, scaler, advance)

    def compiled(self, optimizer: FlatAdam) -> CompiledStep:
        """Steps as machine code."""
        return CompiledStep(*self._basis, optimizer, self._max_grad_norm, self._together)

    def eager(self, optimizer: FlatAdam, scaler: Any = None, advance: Callable[[], Any] | None = None) -> GradientStep:
        """Plain steps."""
        return GradientStep(*self._basis, optimizer, self._max_grad_norm, scaler, advance)
