"""Options of the networks: sizes, initial scales, normalisation."""

# Annotations here are objects, not text: the command line reads them of classes that inherit them in other modules.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import PositiveFloat, PositiveInt

from varshare_pl.networks.activations import ActivationName

EncoderName = Literal["auto", "cnn", "none"]
ReturnNorm = Literal["none", "running", "popart"]


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
