"""Options of the networks: sizes, initial scales, normalisation."""

# Annotations here are objects, not text: the command line reads them of classes that inherit them in other modules.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import PositiveFloat, PositiveInt

from varshare_pl.networks.activations import ActivationName

ReturnNorm = Literal["none", "running", "popart"]
LogStd = Literal["task", "shared", "network"]
ActionBounds = Literal["clip", "tanh"]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The networks.

    Args:
        hidden_sizes: Widths of the hidden layers, of actor and critic each.
        activation: After every hidden layer.
        hidden_gain: Scale of the hidden layers' orthogonal initial weights.
        actor_head_gain: The same for the actor's last layer; small, so that the first policy is close to uniform.
        critic_head_gain: The same for the critic's last layer.
    """

    hidden_sizes: Sequence[PositiveInt] = (64, 64)
    activation: ActivationName = "tanh"
    hidden_gain: PositiveFloat = 2**0.5
    actor_head_gain: PositiveFloat = 0.01
    critic_head_gain: PositiveFloat = 1.0


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """The Gaussian that continuous actions, those of a Box, are drawn from; discrete ones have no such options.

    Args:
        log_std: Where the log standard deviation of continuous actions comes from: a parameter for each "task", one
            that is "shared" by all, or the "network" as outputs of the actor.
        log_std_init: The log standard deviation at the start, in units of the actions; under tanh before squashing.
        log_std_min: Lower bound where it comes from the network.
        log_std_max: Upper bound where it comes from the network.
        action_bounds: How continuous actions are kept within the space's bounds. "clip": at the env, and the policy
            is the Gaussian before; "tanh": squashed by it, and the policy is that of the squashed actions.
    """

    log_std: LogStd = "task"
    log_std_init: float = 0.0
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    action_bounds: ActionBounds = "clip"


@dataclass(frozen=True, kw_only=True)
class NormalisationOptions:
    """What is normalised.

    Args:
        normalize_observations: Actor and critic read observations normalised by each task's running mean and variance.
        normalize_returns: The critic learns value targets normalised by each task's running mean and variance,
            advantages come from raw values. "popart" keeps the critic's values where mean and variance change,
            "running" does not; "none".
        normalize_rewards: Learn from rewards divided by the running standard deviation of their task's discounted
            returns. What is logged stays raw.
    """

    normalize_observations: bool = False
    normalize_returns: ReturnNorm = "none"
    normalize_rewards: bool = False
