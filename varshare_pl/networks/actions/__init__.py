"""The action distributions, and which one an action space has."""

from __future__ import annotations

import numpy as np
from gymnasium import Space, spaces

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actions.distributions import ActionDistribution, Categorical, MultiDiscrete
from varshare_pl.networks.actions.gaussian import DiagonalGaussian, SquashedGaussian
from varshare_pl.networks.options import ActionOptions

__all__ = ["ActionDistribution", "Categorical", "DiagonalGaussian", "MultiDiscrete", "SquashedGaussian"]


def make_distribution(
    action_space: Space,  # type: ignore[type-arg]
    num_tasks: int,
    options: ActionOptions,
) -> ActionDistribution:
    """The action distribution for an action space.

    Args:
        action_space: Of all tasks.
        num_tasks: M.
        options: Of continuous actions.

    Raises:
        ConfigError: for a space that no distribution is for, or options that do not fit it.
    """
    if isinstance(action_space, spaces.Discrete):
        return Categorical(int(action_space.n))
    if isinstance(action_space, spaces.MultiDiscrete):
        return MultiDiscrete(action_space.nvec.ravel().tolist(), tuple(action_space.shape))
    if isinstance(action_space, spaces.Box) and np.issubdtype(action_space.dtype, np.floating):
        kind = SquashedGaussian if options.action_bounds == "tanh" else DiagonalGaussian
        return kind(action_space, num_tasks, options)
    allowed = "Discrete, MultiDiscrete and a Box of floats are"
    raise ConfigError(f"data.suite: the action space {action_space} is not allowed; {allowed}")
