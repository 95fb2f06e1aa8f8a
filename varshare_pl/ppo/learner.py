"""Learning from rollouts, without Lightning: an update and its record for each, and the count of what was done."""

from __future__ import annotations

import time
from typing import Any

from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.cosine import CosineMatrix, cosine_record
from varshare_pl.ppo.normalisation import RewardScaling, moment_details, normalise_targets
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.optimizer import anneal
from varshare_pl.ppo.record import EpisodeLog, update_details, update_metrics
from varshare_pl.ppo.update import (
    TakesSteps,
    UpdateOptions,
    build_rows,
    explained_variance,
    noise_ratio_std,
    update,
)
from varshare_pl.sharing.metrics import details, headline, measure
from varshare_pl.types import Detail, EnvSpec, Record, Rollout


class Learner:
    """Updates a policy, rollout by rollout.

    Args:
        policy: Is trained.
        objective: The loss.
        options: How a rollout is turned into gradient steps.
        spec: Sizes of the task suite and the rollouts.
        episodes: The training returns, which it keeps up to date.
        anneal_lr: Lower the learning rates linearly to 0 over the run.
        diagnostics_every: Rollouts between the costly diagnostics.
        cosine_every: Rollouts between measurements of the cosine between the tasks' gradients; None: never.

    Attributes:
        env_steps: Of the run, up to the newest rollout.
        gradient_steps: Of the run.
    """

    def __init__(
        self,
        policy: ActorCritic,
        objective: Objective,
        options: UpdateOptions,
        spec: EnvSpec,
        episodes: EpisodeLog,
        anneal_lr: bool = True,
        diagnostics_every: int = 10,
        cosine_every: int | None = None,
    ) -> None:
        self.policy = policy
        self.objective = objective
        self.options = options
        self.env_steps = 0
        self.gradient_steps = 0
        self._episodes = episodes
        self._spec = spec
        self._anneal_lr = anneal_lr
        self._diagnostics_every = diagnostics_every
        self._cosine_every = cosine_every or 0
        self._cosine = CosineMatrix(policy, spec.obs_size) if cosine_every else None
        self._seconds_before = 0.0  # of the run before it was resumed
        self._started = time.perf_counter()
        moments = policy.reward_moments
        self._rewards = None if moments is None else RewardScaling(moments, options.gamma)

    def start_clock(self) -> None:
        """From here on the run's wall time counts."""
        self._started = time.perf_counter()

    @property
    def wall_time(self) -> float:
        """Seconds of training, all parts of a resumed run together."""
        return self._seconds_before + time.perf_counter() - self._started

    def __call__(self, batch: Rollout, step: TakesSteps) -> Record:
        """Update the policy with one rollout."""
        start = time.perf_counter()
        self.env_steps = batch.env_steps
        done = batch.index / self._spec.num_rollouts
        if self._anneal_lr:
            anneal(step.optimizer, 1.0 - done)
        learned = batch if self._rewards is None else self._rewards(batch)
        rows, groups = build_rows(self.policy, learned, self.options)
        metrics: dict[str, float] = {}
        full = batch.index % self._diagnostics_every == 0 or batch.index + 1 == self._spec.num_rollouts
        if full:
            noise_std = noise_ratio_std(self.policy, rows, groups, batch.index, self.options.seed)
            if noise_std is not None:
                metrics["diagnostics/noise_ratio_std"] = noise_std
        metrics["diagnostics/explained_variance"] = explained_variance(rows["values"], rows["returns"])
        normalise_targets(self.policy, rows)
        extra: list[Detail] = []
        if self._cosine is not None and batch.index % self._cosine_every == 0:
            cosine, extra = cosine_record(self._cosine(rows, groups, batch.index, self.objective, self.options))
            metrics |= cosine
        result = update(self.policy, rows, groups, batch.index, self.objective.at(done), self.options, step)
        if self.policy.observation_moments is not None:  # not before: the same ones act and learn
            self.policy.observation_moments.update(rows["obs"], rows["task"])

        for _, torso in self.policy.networks():
            torso.after_update(batch.index)
        sharing = measure(self.policy.layers(), kl=full)
        episode_metrics, episode_details = self._episodes.add(batch.episodes)
        metrics |= update_metrics(result, self.policy) | headline(sharing) | episode_metrics
        self.gradient_steps += result.steps
        metrics["gradient_steps"] = self.gradient_steps
        metrics["wall_time_s"] = self.wall_time
        metrics["sps"] = self._spec.rollout_rows / (batch.seconds + time.perf_counter() - start)
        rates = {group["name"]: group["lr"] for group in step.optimizer.param_groups}
        extra += update_details(result, rates) + (details(sharing) + moment_details(self.policy) if full else [])
        for network, torso in self.policy.networks():
            extra += [Detail(name, value, network) for name, value in torso.measures().items()]
        return Record(batch.env_steps, metrics, episode_details + extra)

    def state(self) -> dict[str, Any]:
        """The counts and what runs in the envs, for a checkpoint; of all processes together."""
        running = {} if self._rewards is None else {"discounted_returns": self._rewards.state()}
        return running | {
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "wall_time_s": self.wall_time,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up those of a checkpoint."""
        self.env_steps = int(state["env_steps"])
        self.gradient_steps = int(state["gradient_steps"])
        self._seconds_before = state["wall_time_s"]
        if self._rewards is not None:
            self._rewards.load_state(state["discounted_returns"])
