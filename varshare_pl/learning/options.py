"""Options of learning, whatever the algorithm: optimizer and weight noise."""

# Annotations here are objects, not text: the command line reads them of classes that inherit them in other modules.
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import PositiveFloat

ActorNoiseMode = Literal["rollout", "stored", "mean", "fresh"]
CriticNoiseMode = Literal["local", "weights", "mean"]


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """The optimizer.

    Args:
        lr_actor: Learning rate of the actor.
        lr_critic: Learning rate of the critic.
        lr_log_var: Learning rate of log variances; null: that of their network.
        lr_log_std: Learning rate of the log standard deviations of continuous actions; null: that of the actor.
        adam_eps: Adam's epsilon.
        adam_eps_log_var: Adam's epsilon for log variances, small enough for the KL's small gradients.
        anneal_lr: Lower the learning rates linearly to 0 over the run.
        max_grad_norm: Clip the gradients of actor and critic apart to this norm; null: off.
    """

    lr_actor: PositiveFloat = 5e-3
    lr_critic: PositiveFloat = 5e-3
    lr_log_var: PositiveFloat | None = None
    lr_log_std: PositiveFloat | None = None
    adam_eps: PositiveFloat = 1e-5
    adam_eps_log_var: PositiveFloat = 1e-8
    anneal_lr: bool = True
    max_grad_norm: PositiveFloat | None = 0.5


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Weight noise.

    Args:
        actor_noise: Weight noise of the actor. "rollout": one draw per task and layer for a rollout and its update;
            "stored": a draw per env step at each layer's output (local reparameterisation), kept for the update;
            "mean": none, the posterior mean; "fresh": a new draw at every forward, for comparison only.
        critic_noise: Weight noise of the critic in the value loss. "local": drawn per row at each layer's output (local
            reparameterisation); "weights": a draw per task and layer for a minibatch, cheaper; "mean": none.
    """

    actor_noise: ActorNoiseMode = "rollout"
    critic_noise: CriticNoiseMode = "local"
