"""Options of the networks: sizes, initial scales, normalisation."""

# Annotations here are objects, not text: the command line reads them of classes that inherit them in other modules.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from jsonargparse.typing import PositiveFloat, PositiveInt

from varshare_pl.earlier import new_value
from varshare_pl.errors import ConfigError
from varshare_pl.networks.activations import ActivationName

EncoderName = Literal["auto", "cnn", "none"]
LogStd = Literal["task", "shared", "network"]
ActionBounds = Literal["clip", "tanh"]
Scope = Literal["shared", "task", "none"]
ObservationScope = Literal["auto", Scope]
SCOPED: Mapping[str, Sequence[str]] = {
    "normalize_observations": get_args(ObservationScope),
    "normalize_returns": get_args(Scope),
    "normalize_rewards": get_args(Scope),
}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The networks.

    Args:
        encoder: What is before the layers of actor and critic each. "cnn": convolutions, of images alone; "none";
            "auto": convolutions where observations are uint8 images, three axes with sides of at least 4.
        hidden_sizes: Widths of the hidden layers, of actor and critic each.
        activation: After every hidden layer.
        hidden_gain: Scale of the hidden layers' orthogonal initial weights.
        actor_head_gain: The same for the actor's last layer; small, so that the first policy is close to uniform.
        critic_head_gain: The same for the critic's last layer.
    """

    encoder: EncoderName = "auto"
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
    """What is normalised: by running moments of all tasks together ("shared"), of each "task", or not ("none").

    Args:
        normalize_observations: Actor and critic read observations normalised by mean and standard deviation. "auto":
            not uint8 images that the encoder reads, which are divided by their largest value; all else "shared".
        normalize_returns: The critic learns value targets normalised by their mean and standard deviation; advantages
            come from raw values.
        popart: Keep the critic's values where the moments of its targets change; needs normalize_returns.
        normalize_rewards: Learn from rewards divided by the standard deviation of the discounted returns. What is
            logged stays raw.
    """

    normalize_observations: ObservationScope = "auto"
    normalize_returns: Scope = "none"
    popart: bool = False
    normalize_rewards: Scope = "shared"

    def __post_init__(self) -> None:
        for option, scopes in SCOPED.items():
            value = getattr(self, option)
            if value not in scopes:
                allowed = f"{', '.join(scopes[:-1])} or {scopes[-1]} is"
                raise ConfigError(f"model.{option}: {value} is not allowed; {allowed}{new_value(option, value)}")
        if self.popart and self.normalize_returns == "none":
            raise ConfigError(
                "model.popart: true is not allowed with model.normalize_returns none; shared and task are"
            )

    def observation_scope(self, encodes_bytes: bool) -> Scope:
        """By which moments observations are normalised.

        Args:
            encodes_bytes: Whether they are uint8 images that an encoder reads.
        """
        if self.normalize_observations == "auto":
            return "none" if encodes_bytes else "shared"
        return self.normalize_observations
