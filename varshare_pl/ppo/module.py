"""The LightningModule: PPO on rollouts, one batch a rollout, manual optimisation.

Glue only; the work is in its neighbours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import lightning.pytorch as pl
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.nn.parallel import DistributedDataParallel

from varshare_pl.checkpoints import CHECKPOINT_KEY, check_checkpoint, check_optimizer
from varshare_pl.combiners import GradientCombiner
from varshare_pl.compressed import expand_
from varshare_pl.errors import ConfigError
from varshare_pl.policy.actor_critic import ActorCritic, ReturnNorm
from varshare_pl.policy.matching import MatchParameters, matched_hidden_sizes
from varshare_pl.ppo.advantages import AdvantageNorm
from varshare_pl.ppo.behaviour import ActorNoise, Behaviour
from varshare_pl.ppo.combined import Combining
from varshare_pl.ppo.critic_noise import CriticNoise
from varshare_pl.ppo.growth import Start, inherit_moments, start_from
from varshare_pl.ppo.learner import Learner
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.optimizer import FlatAdam, build_optimizer
from varshare_pl.ppo.record import EpisodeLog
from varshare_pl.ppo.schedules import KLSchedule
from varshare_pl.ppo.stepping import Stepping
from varshare_pl.ppo.update import TakesSteps, UpdateOptions
from varshare_pl.sharing import SharingMethod
from varshare_pl.sharing.activations import ActivationName
from varshare_pl.types import EnvSpec, Record, Rollout


class PPOModule(pl.LightningModule):
    """Clipped PPO over several tasks, with the parameter sharing of a sharing method.

    Args:
        spec: Sizes of the task suite and the rollouts; the command line takes it from the data.
        sharing: The sharing method: varshare, independent, shared, shared_onehot or the class path of another one;
            --model.sharing.help NAME explains a method's options.
        combiner: How the tasks' gradients of shared parameters are combined: pcgrad, cagrad, mgda, famo and others
            (docs/combiners.md) or the class path of another one; --model.combiner.help NAME explains a combiner's
            options. null: their mean.
        hidden_sizes: Widths of the hidden layers, of actor and critic each.
        match_parameters: Widen or narrow the hidden layers until actor and critic together have as many "active" or
            "stored" parameters as VarShare's with its default options and hidden_sizes; null: off.
        activation: After every hidden layer.
        hidden_gain: Scale of the hidden layers' orthogonal initial weights.
        actor_head_gain: The same for the actor's head.
        critic_head_gain: The same for the critic's head.
        actor_noise: Weight noise of the actor. "rollout": one draw per task and layer for a rollout and its update;
            "stored": a draw per env step at each layer's output (local reparameterisation), kept for the update;
            "mean": none, the posterior mean; "fresh": a new draw at every forward, for comparison only.
        critic_noise: Weight noise of the critic in the value loss. "local": drawn per row at each layer's output (local
            reparameterisation); "flipout": a draw per task and layer for a minibatch, with signs per row; "weights":
            the same without signs, cheaper; "mean": none.
        kl_weight: β̃, the weight of the KL to the prior, divided by the number of variational weights of a task.
        kl_schedule: How kl_weight changes over the run. "constant", or "warmup_ramp": from 0 up to it over the first
            tenth, held up to eight tenths, and up to twice that at the end.
        gamma: Discount γ.
        gae_lambda: λ of the advantage estimation.
        clip_range: ε of the clipped surrogate.
        value_clip_range: Keep new values this close to the old ones in the value loss, in units of the
            critic's outputs, which normalize_returns and normalize_rewards change; null: off.
        entropy_coef: Weight of the entropy bonus.
        value_coef: Weight of the value loss.
        advantage_norm: Normalise advantages once per rollout within each "task", "pooled" over all rows, or "none".
        update_epochs: Passes over a rollout.
        minibatch_size: Rows of a minibatch, over all tasks; divides rollout_steps × num_envs.
        lr_actor: Learning rate of the actor.
        lr_critic: Learning rate of the critic.
        lr_log_var: Learning rate of log variances; null: that of their network.
        adam_eps: Adam's epsilon.
        adam_eps_log_var: Adam's epsilon for log variances, small enough for the KL's small gradients.
        anneal_lr: Lower the learning rates linearly to 0 over the run.
        max_grad_norm: Clip the gradients of actor and critic apart to this norm; null: off.
        target_kl: Stop a rollout's update before the step at which the policy KL exceeds this; null: off.
        compile: Act, step envs with physics of their own, and take gradient steps as machine code; for long runs and
            studies. Compiling takes about a minute at first and is kept on disk.
        normalize_observations: Actor and critic read observations normalised by each task's running mean and variance.
        normalize_returns: The critic learns value targets normalised by each task's running mean and variance,
            advantages come from raw values. "popart" keeps the critic's values where mean and variance change,
            "running" does not; "none".
        normalize_rewards: Learn from rewards divided by the running standard deviation of their task's discounted
            returns. What is logged stays raw.
        diagnostics_every: Rollouts between the costly diagnostics (noise ratio, sharing per layer).
        cosine_every: Rollouts between measurements of the cosine between the tasks' gradients of shared parameters;
            null: never.
        seed: Hangs weights and noise on the run's seed; the command line sets it from seed_everything.
    """

    def __init__(
        self,
        spec: EnvSpec,
        sharing: SharingMethod,
        combiner: GradientCombiner | None = None,
        hidden_sizes: Sequence[PositiveInt] = (64, 64),
        match_parameters: MatchParameters | None = None,
        activation: ActivationName = "tanh",
        hidden_gain: PositiveFloat = 2**0.5,
        actor_head_gain: PositiveFloat = 0.01,
        critic_head_gain: PositiveFloat = 1.0,
        actor_noise: ActorNoise = "rollout",
        critic_noise: CriticNoise = "local",
        kl_weight: NonNegativeFloat = 0.1,
        kl_schedule: KLSchedule = "constant",
        gamma: ClosedUnitInterval = 0.99,
        gae_lambda: ClosedUnitInterval = 0.95,
        clip_range: PositiveFloat = 0.2,
        value_clip_range: PositiveFloat | None = None,
        entropy_coef: NonNegativeFloat = 0.01,
        value_coef: NonNegativeFloat = 0.5,
        advantage_norm: AdvantageNorm = "task",
        update_epochs: PositiveInt = 4,
        minibatch_size: PositiveInt = 1280,
        lr_actor: PositiveFloat = 5e-3,
        lr_critic: PositiveFloat = 5e-3,
        lr_log_var: PositiveFloat | None = None,
        adam_eps: PositiveFloat = 1e-5,
        adam_eps_log_var: PositiveFloat = 1e-8,
        anneal_lr: bool = True,
        max_grad_norm: PositiveFloat | None = 0.5,
        target_kl: PositiveFloat | None = None,
        compile: bool = False,  # noqa: A002
        normalize_observations: bool = False,
        normalize_returns: ReturnNorm = "none",
        normalize_rewards: bool = False,
        diagnostics_every: PositiveInt = 10,
        cosine_every: PositiveInt | None = None,
        seed: NonNegativeInt = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if spec.rollout_rows % minibatch_size:
            raise ConfigError(
                f"model.minibatch_size: {minibatch_size} is not allowed; a divisor of "
                f"data.rollout_steps × data.num_envs = {spec.rollout_rows} is"
            )
        self.spec = spec
        self.method_name = getattr(type(sharing), "name", type(sharing).__name__)
        gains = (hidden_gain, actor_head_gain, critic_head_gain)
        normalised = (normalize_observations, normalize_returns, normalize_rewards)
        try:
            widths = matched_hidden_sizes(spec, sharing, hidden_sizes, match_parameters)
            self.policy = ActorCritic(spec, sharing, widths, activation, *gains, seed, *normalised)
        except ConfigError as error:  # a method knows its options, but not where they stand in a config
            text = str(error)
            raise ConfigError(text if text.startswith("model.") else f"model.sharing.init_args.{text}") from error
        self.objective = Objective(clip_range, value_clip_range, value_coef, entropy_coef, kl_weight, kl_schedule)
        self.options = UpdateOptions(
            epochs=update_epochs,
            num_minibatches=spec.rollout_rows // minibatch_size,
            gamma=gamma,
            gae_lambda=gae_lambda,
            advantage_norm=advantage_norm,
            actor_noise=actor_noise,
            critic_noise=critic_noise,
            target_kl=target_kl,
            seed=seed,
        )
        basis = (self.policy, self.objective, self.options, spec)
        self.episodes = EpisodeLog(spec.num_tasks)
        self.learner = Learner(*basis, self.episodes, anneal_lr, diagnostics_every, cosine_every)
        self.cosine_every = cosine_every
        self.seed = seed
        self._lrs = (lr_actor, lr_critic, lr_log_var)
        self._eps = (adam_eps, adam_eps_log_var)
        self.compile_steps = compile
        self.combining = None if combiner is None else Combining(combiner, self.policy, spec.obs_size, seed)
        self.stepping = Stepping(*basis, max_grad_norm, self.combining, compile)
        self.start: Start | None = None  # of a run from a checkpoint's weights
        self.opening: Record | None = None  # what is known before its first rollout, where it has new tasks
        if actor_noise == "fresh" and self.policy.actor.log_var_parameters():
            warnings.warn(
                "model.actor_noise=fresh: acting and update use different weight noise, so PPO's ratio is not 1 before "
                "any step; for comparison only",
                stacklevel=2,
            )

    @property
    def num_tasks(self) -> int:
        """M."""
        return self.spec.num_tasks

    @property
    def combiner_name(self) -> str | None:
        """None without a combiner."""
        return None if self.combining is None else self.combining.name

    @property
    def env_steps(self) -> int:
        """Of the run, up to the newest rollout."""
        return self.learner.env_steps

    @property
    def gradient_steps(self) -> int:
        """Of the run."""
        return self.learner.gradient_steps

    def behaviour(self, rollout: int) -> Behaviour:
        """The policy of this moment, to collect the rollout of that index with."""
        # Acting and update compute in the same precision, or the ratio would not start at 1.
        context = nullcontext if self._trainer is None else self._trainer.precision_plugin.forward_context
        return Behaviour(self.policy, self.options.actor_noise, self.seed, rollout, self.device, context)

    def configure_optimizers(self) -> FlatAdam:
        optimizer = build_optimizer(self.policy, *self._lrs, *self._eps)
        if self.start is not None and self.start.optimizer is not None:
            inherit_moments(optimizer, self, self.start.optimizer, self.start.shapes)
        return optimizer

    def setup(self, stage: str) -> None:
        self.stepping.check(self.trainer.world_size, str(self.trainer.precision), self._scaler())

    def on_train_start(self) -> None:
        self._count_steps()
        if isinstance(self.trainer.model, DistributedDataParallel):
            self.trainer.model.broadcast_buffers = False  # they come from sums over all processes, so all have the same
        self.learner.start_clock()

    def training_step(self, batch: Rollout, batch_idx: int) -> dict[str, Record]:
        """One PPO update on one rollout; the record of it goes to the callbacks."""
        optimizer = cast("FlatAdam", self.optimizers(use_pl_optimizer=False))
        record = self.learner(batch, self._step(optimizer))
        self._count_steps()
        return {"record": record}

    def _step(self, optimizer: FlatAdam) -> TakesSteps:
        scaler = self._scaler()
        # Lightning's wrapper costs as much as the step; only a scaler needs it.
        wrapper = None if scaler is None else cast("LightningOptimizer", self.optimizers()).step
        return self.stepping(optimizer, scaler, wrapper)

    def _scaler(self) -> Any:
        """Of the loss, in 16-mixed."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _count_steps(self) -> None:
        # For trainer.global_step. A resumed fit has fresh loops (see on_save_checkpoint).
        steps = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        steps.ready = steps.completed = self.gradient_steps

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: the ``Evaluation`` callback evaluates. Lightning asks for the method to run ``validate``."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Lightning's loops are left out: a resumed fit is a fresh one over the rollouts that are left. Their counters
        # within an epoch would have to agree with ours, and an extended run would find its one epoch done.
        checkpoint.pop("loops", None)
        checkpoint[CHECKPOINT_KEY] = self._identity() | self.learner.state()
        if self.combining is not None:
            checkpoint[CHECKPOINT_KEY]["combiner_state"] = self.combining.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        expand_(checkpoint)  # Lightning reads a pruned one as it is
        check_checkpoint(checkpoint, self._identity(), self.state_dict())
        check_optimizer(checkpoint)
        self.learner.load_state(checkpoint[CHECKPOINT_KEY])
        if self.combining is not None:
            self.combining.load_state(checkpoint[CHECKPOINT_KEY]["combiner_state"])

    def load_weights(self, checkpoint: dict[str, Any]) -> None:
        """Start from a checkpoint's weights, with everything else new; any suite of the same sizes will do.

        A suite with more tasks must begin with the checkpoint's; then Adam's moments are kept as well.

        Raises:
            ConfigError: if the checkpoint does not fit.
        """
        self.start = start_from(checkpoint, self, self.spec)
        prefix, weights = "policy.", self.start.state
        check_checkpoint({**checkpoint, "state_dict": weights}, {"sharing": self.method_name}, self.state_dict())
        self.policy.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})

    def _identity(self) -> dict[str, Any]:
        own = {"suite": self.spec.suite, "num_tasks": self.spec.num_tasks, "sharing": self.method_name}
        return own | {"combiner": self.combiner_name, "tasks": list(self.spec.tasks)}
