"""The LightningModule: PPO on rollouts, one batch a rollout, manual optimisation."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from varshare_pl.checkpoints import CHECKPOINT_KEY, check_checkpoint, check_optimizer
from varshare_pl.combiners import GradientCombiner
from varshare_pl.compressed import expand_
from varshare_pl.errors import ConfigError
from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.episodes import EpisodeLog
from varshare_pl.learning.normalisation import RewardScaling, moment_details, normalise_targets
from varshare_pl.learning.optimizer import PolicyAdam, anneal, build_optimizer
from varshare_pl.learning.schedules import KL_SCHEDULES
from varshare_pl.learning.warm_start import WarmStart, inherit_moments, start_from
from varshare_pl.learning.weight_noise import make_actor_noise, make_critic_noise
from varshare_pl.networks.actions import DiagonalGaussian
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.sharing_metrics import details as sharing_details
from varshare_pl.networks.sharing_metrics import headline, measure
from varshare_pl.ppo.checks import check_compile, check_device, check_precision, count_minibatches, warn_of_fresh_noise
from varshare_pl.ppo.combined import CombinedSteps, Combining
from varshare_pl.ppo.cosine import CosineMatrix, cosine_record
from varshare_pl.ppo.diagnostics import action_std, noise_ratio_std, update_kl
from varshare_pl.ppo.evaluator import Evaluator
from varshare_pl.ppo.losses import kl_scale
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.record import update_record
from varshare_pl.ppo.trainer_state import TrainerState
from varshare_pl.ppo.update import GradientSteps, PlainSteps, build_rows, step_inputs
from varshare_pl.rollout.advantages import explained_variance
from varshare_pl.rollout.minibatches import Rows, task_weights
from varshare_pl.sharing import SharingMethod
from varshare_pl.sharing.matching import matched_hidden_sizes
from varshare_pl.types import Detail, EnvSpec, Record, Rollout, RolloutPlan


class PPOModule(pl.LightningModule):
    """Clipped PPO over several tasks, with the parameter sharing of a sharing method.

    Args:
        spec: Of the task suite; the command line takes it from the data.
        plan: Of the rollouts; the same.
        sharing: The sharing method: varshare, independent, shared, shared_onehot or the class path of another one;
            --model.sharing.help NAME explains a method's options.
        combiner: How the tasks' gradients of shared parameters are combined: pcgrad, cagrad, mgda, famo and others
            (docs/combiners.md) or the class path of another one; --model.combiner.help NAME explains a combiner's
            options. null: their mean.
        options: Those of ``varshare_pl.ppo.options.Options``.
    """

    def __init__(
        self,
        spec: EnvSpec,
        plan: RolloutPlan,
        sharing: SharingMethod,
        combiner: GradientCombiner | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec = spec
        self.plan = plan
        self.options = own = Options(**options)
        self.num_minibatches = count_minibatches(plan, own.minibatch_size, own.num_minibatches)
        self.method_name = getattr(type(sharing), "name", type(sharing).__name__)
        try:
            widths = matched_hidden_sizes(spec, sharing, own, own.match_parameters, own)
            self.policy = ActorCritic(spec, sharing, replace(own, hidden_sizes=widths), own, own, own.seed)
        except ConfigError as error:  # a method knows its options, but not where they stand in a config
            text = str(error)
            named = text.startswith(("model.", "data."))
            raise ConfigError(text if named else f"model.sharing.init_args.{text}") from error
        self.actor_noise = make_actor_noise(own.actor_noise, self.policy.actor, own.seed)
        self.critic_noise = make_critic_noise(own.critic_noise, self.policy.critic, own.seed)
        moments = self.policy.reward_moments
        self.reward_scaling = None if moments is None else RewardScaling(moments, own.gamma)
        self.cosine = None if own.cosine_every is None else CosineMatrix(self.policy)
        self.combining = None if combiner is None else Combining(combiner, self.policy, own.seed)
        self.episodes = EpisodeLog(spec.num_tasks, spec.success)
        self._kl_schedule = KL_SCHEDULES[own.kl_schedule]
        self._measured = [entry for entry in self.policy.layers() if entry[2].shared_and_residual() is not None]
        self.env_steps = 0  # of the run, up to the newest rollout
        self.gradient_steps = 0  # of the run
        self.warm_start: WarmStart | None = None  # of a run from a checkpoint's weights
        self.evaluator: Evaluator | None = None  # of a fit that evaluates
        self.steps: GradientSteps  # from configure_optimizers on
        self._seconds_before = 0.0  # of the run before it was resumed
        self._started = time.perf_counter()
        if own.compile:
            check_compile(plan, spec.num_tasks, self.combining is not None)
        warn_of_fresh_noise(own.actor_noise, self.actor_noise is not None)

    @property
    def num_tasks(self) -> int:
        """M."""
        return self.spec.num_tasks

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.options.seed)

    @property
    def combiner_name(self) -> str | None:
        """None without a combiner."""
        return None if self.combining is None else self.combining.name

    @property
    def wall_time(self) -> float:
        """Seconds of training, all parts of a resumed run together."""
        return self._seconds_before + time.perf_counter() - self._started

    def acting_policy(self, rollout: int) -> ActingPolicy:
        """The policy of this moment, to collect the rollout of that index with."""
        # Acting and update compute in the same precision, or the ratio would not start at 1.
        context = nullcontext if self._trainer is None else self._trainer.precision_plugin.forward_context
        return ActingPolicy(self.policy, self.actor_noise, self.options.seed, rollout, context)

    def training_step(self, batch: Rollout, batch_idx: int) -> dict[str, Record]:
        """One PPO update on one rollout; the record of it goes to the callbacks."""
        record = self.learn(batch)
        if self.evaluator is not None:
            self.evaluator.after_rollout(record, last=batch.index + 1 == self.plan.count)
        return {"record": record}

    def first_record(self) -> Record | None:
        """What is known before the first rollout, from an evaluation that comes first; the same for all who ask."""
        new_tasks = self.warm_start is not None and bool(self.warm_start.new_tasks) and not self.env_steps
        return None if self.evaluator is None else self.evaluator.first_record(new_tasks)

    def learn(self, rollout: Rollout) -> Record:
        """One PPO update on one rollout, and the record of it; works without a Trainer after configure_optimizers."""
        start = time.perf_counter()
        policy, options, index = self.policy, self.options, rollout.index
        done = index / self.plan.count  # the share of the run that is over
        full = index % options.diagnostics_every == 0 or index + 1 == self.plan.count
        if options.anneal_lr:
            anneal(self.steps.optimizer, 1.0 - done)
        learned = rollout if self.reward_scaling is None else self.reward_scaling.scale(rollout)
        rows, groups = build_rows(policy, learned, options, self.actor_noise)
        row_weight = task_weights(rows["task"], policy.num_tasks)
        metrics, details = self._before_update(rollout, rows, groups, row_weight, full)
        if policy.return_moments is not None:
            normalise_targets(policy, rows)

        noise, number = (self.actor_noise, self.critic_noise), self.num_minibatches
        inputs = step_inputs(rows, groups, row_weight, index, number, options, *noise, options.seed)
        scale = kl_scale(options.kl_weight * (self._kl_schedule(done) if self._kl_schedule else 1.0), policy)
        taken = self.steps.run(inputs, scale, index)

        details += self._after_update(rollout, rows, groups, full)
        self.env_steps = rollout.env_steps
        self.gradient_steps += len(taken.norms)
        of_update = update_record(taken, policy, groups.group_task, row_weight > 0, scale, options)
        for some_metrics, some_details in (of_update, self.episodes.add(rollout.episodes), self._sharing_record(full)):
            metrics |= some_metrics
            details += some_details
        details += [Detail("diagnostics/lr", group["lr"], group["name"]) for group in self.steps.optimizer.param_groups]
        sps = self.plan.rows / (rollout.seconds + time.perf_counter() - start)
        metrics |= {"gradient_steps": self.gradient_steps, "wall_time_s": self.wall_time, "sps": sps}
        return Record(rollout.env_steps, metrics, details)

    def _before_update(
        self, rollout: Rollout, rows: Rows, groups: TaskGroups, row_weight: Tensor, full: bool
    ) -> tuple[dict[str, float], list[Detail]]:
        """What is measured before the update: of critic and actions, and of gradients and noise when it is time to."""
        policy, options, index = self.policy, self.options, rollout.index
        of_critic = explained_variance(rows["values"], rows["returns"], rows["task"], policy.num_tasks)
        metrics: dict[str, float] = {"diagnostics/explained_variance": of_critic}
        details = action_std(policy, rollout) if isinstance(policy.distribution, DiagonalGaussian) else []
        if full and (noise_std := noise_ratio_std(policy, rows, groups, index, options.seed)) is not None:
            metrics["diagnostics/noise_ratio_std"] = noise_std
        if self.cosine is not None and options.cosine_every is not None and index % options.cosine_every == 0:
            cosines = self.cosine.measure(rows, groups, row_weight, index, options, self.actor_noise, options.seed)
            of_gradients, of_pairs = cosine_record(cosines)
            metrics, details = metrics | of_gradients, details + of_pairs
        return metrics, details

    def _after_update(self, rollout: Rollout, rows: Rows, groups: TaskGroups, full: bool) -> list[Detail]:
        """What changes between rollouts: moments of observations, and what networks do; with ``full`` the exact KL."""
        details = update_kl(self.policy, rollout, rows, groups, self.actor_noise) if full else []
        if (moments := self.policy.observation_moments) is not None:  # not before: the same ones act and learn
            moments.update(rollout.obs.flatten(0, 1).flatten(1), rollout.task.flatten())
        for _, network in self.policy.networks():
            network.after_update(rollout.index)
        return details

    def _sharing_record(self, full: bool) -> tuple[dict[str, float], list[Detail]]:
        """How much the layers share; with ``full`` per layer, and the moments of what is normalised."""
        details = moment_details(self.policy) if full else []
        if not self._measured:
            return {}, details
        sharing = measure(self._measured, full)
        details += sharing_details(sharing) if full else []
        for name, network in self.policy.networks():
            details += [Detail(metric, value, name) for metric, value in network.measures().items()]
        return headline(sharing), details

    def configure_optimizers(self) -> PolicyAdam:
        optimizer = build_optimizer(self.policy, self.options)
        if self.warm_start is not None and self.warm_start.optimizer is not None:
            inherit_moments(optimizer, self, self.warm_start)
        self.steps = self.gradient_steps_of(optimizer)
        return optimizer

    def gradient_steps_of(self, optimizer: PolicyAdam) -> GradientSteps:
        """What takes the run's gradient steps: plain ones, combined ones, or machine code."""
        options, scaler = self.options, self._scaler()
        basis = self.policy, optimizer, options, options.max_grad_norm
        if options.compile:
            from varshare_pl.ppo.compiled import CompiledSteps

            return CompiledSteps(*basis)
        if self.combining is not None:
            return CombinedSteps(*basis, self.combining)
        if scaler is None:
            return PlainSteps(*basis)
        # Lightning's wrapper costs as much as the step; only a scaler needs it.
        return PlainSteps(*basis, scaler, lambda: cast("LightningOptimizer", self.optimizers()).step())

    def setup(self, stage: str) -> None:
        trainer = self.trainer
        check_precision(str(trainer.precision), self._scaler() is not None, self.combining is not None)
        if self.options.compile and (trainer.world_size > 1 or self._scaler() is not None):
            what = "several processes" if trainer.world_size > 1 else f"trainer.precision={trainer.precision}"
            raise ConfigError(f"model.compile: true is not allowed with {what}")
        check_device(trainer.strategy.root_device, self.policy)

    def on_train_start(self) -> None:
        if isinstance(self.trainer.model, DistributedDataParallel):
            self.trainer.model.broadcast_buffers = False  # they come from sums over all processes, so all have the same
        self._started = time.perf_counter()

    def _scaler(self) -> Any:
        """Of the loss, in 16-mixed."""
        return None if self._trainer is None else getattr(self.trainer.precision_plugin, "scaler", None)

    def configure_callbacks(self) -> list[pl.Callback]:
        return [TrainerState()]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: the ``Evaluation`` callback evaluates. Lightning asks for the method to run ``validate``."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Lightning's loops are left out: a resumed fit is a fresh one over the rollouts that are left. An extended run
        # would find its one epoch done.
        checkpoint.pop("loops", None)
        state: dict[str, Any] = {"env_steps": self.env_steps, "gradient_steps": self.gradient_steps}
        state["wall_time_s"] = self.wall_time
        if self.reward_scaling is not None:
            state["discounted_returns"] = self.reward_scaling.state()
        if self.combining is not None:
            state["combiner_state"] = self.combining.state()
        checkpoint[CHECKPOINT_KEY] = self._identity() | state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        expand_(checkpoint)  # Lightning reads a pruned one as it is
        check_checkpoint(checkpoint, self._identity(), self.state_dict())
        check_optimizer(checkpoint)
        state = checkpoint[CHECKPOINT_KEY]
        self.env_steps = int(state["env_steps"])
        self.gradient_steps = int(state["gradient_steps"])
        self._seconds_before = state["wall_time_s"]
        if self.reward_scaling is not None:
            self.reward_scaling.load_state(state["discounted_returns"])
        if self.combining is not None:
            self.combining.load_state(state["combiner_state"])

    def load_weights(self, checkpoint: dict[str, Any]) -> None:
        """Start from a checkpoint's weights, with everything else new; any suite of the same sizes will do.

        A suite with more tasks must begin with the checkpoint's; then Adam's moments are kept as well.

        Raises:
            ConfigError: if the checkpoint does not fit.
        """
        self.warm_start = start_from(checkpoint, self, self.spec)
        state, prefix = self.warm_start.state, "policy."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        check_checkpoint({**checkpoint, "state_dict": weights}, {"sharing": self.method_name}, self.policy.state_dict())
        self.policy.load_state_dict(weights)

    def _identity(self) -> dict[str, Any]:
        own = {"suite": self.spec.suite, "num_tasks": self.spec.num_tasks, "sharing": self.method_name}
        return own | {"combiner": self.combiner_name, "tasks": list(self.spec.tasks)}
