"""The options of PPO, and of a run with it: the model's part of a config."""

# Annotations here are objects, not text: the command line reads them of classes that inherit them in other modules.
from dataclasses import dataclass

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from varshare_pl.learning.options import NoiseOptions, OptimizerOptions
from varshare_pl.learning.schedules import KLSchedule
from varshare_pl.networks.options import ActionOptions, NetworkOptions, NormalisationOptions
from varshare_pl.rollout.advantages import AdvantageNorm
from varshare_pl.sharing.matching import MatchParameters


@dataclass(frozen=True, kw_only=True)
class PPOOptions:
    """How a rollout is turned into gradient steps.

    Args:
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
        minibatch_size: Rows of a minibatch, over all tasks; divides rollout_steps × num_envs. null: num_minibatches
            says how many there are.
        num_minibatches: Minibatches of a pass, in place of minibatch_size; divides rollout_steps × num_envs.
        target_kl: Stop a rollout's update before the step at which the policy KL exceeds this; null: off.
    """

    kl_weight: NonNegativeFloat = 0.1
    kl_schedule: KLSchedule = "constant"
    gamma: ClosedUnitInterval = 0.99
    gae_lambda: ClosedUnitInterval = 0.95
    clip_range: PositiveFloat = 0.2
    value_clip_range: PositiveFloat | None = None
    entropy_coef: NonNegativeFloat = 0.01
    value_coef: NonNegativeFloat = 0.5
    advantage_norm: AdvantageNorm = "task"
    update_epochs: PositiveInt = 4
    minibatch_size: PositiveInt | None = 1280
    num_minibatches: PositiveInt | None = None
    target_kl: PositiveFloat | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes, whatever it learns.

    Args:
        match_parameters: Widen or narrow the hidden layers until actor and critic together have as many "active" or
            "stored" parameters as VarShare's with its default options and hidden_sizes; null: off.
        compile: Act, step envs with physics of their own, and take gradient steps as machine code; for long runs and
            studies. Compiling takes about a minute at first and is kept on disk.
        diagnostics_every: Rollouts between the costly diagnostics (noise ratio, sharing per layer).
        cosine_every: Rollouts between measurements of the cosine between the tasks' gradients of shared parameters;
            null: never.
        seed: Hangs weights and noise on the run's seed; the command line sets it from seed_everything.
    """

    match_parameters: MatchParameters | None = None
    compile: bool = False
    diagnostics_every: PositiveInt = 10
    cosine_every: PositiveInt | None = None
    seed: NonNegativeInt = 1


@dataclass(frozen=True, kw_only=True)
class Options(
    RunOptions, OptimizerOptions, NormalisationOptions, PPOOptions, NoiseOptions, ActionOptions, NetworkOptions
):
    """All options of a PPO run's model; each group is passed on to where it is used."""
