"""One random stream an env, the same in every backend, and its state as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from varshare_pl.errors import ConfigError

SPACES = 0x59ACE5  # apart from an env's index, for the stream that an env's spaces draw from


def stream_seed(seed: int, index: int) -> int:
    """The seed of the env with global index ``index`` in a run with seed ``seed``."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def spread_seeds(seed: int | Sequence[int | None] | None, n: int) -> list[int | None]:
    """The seeds of ``reset(seed=…)`` of n envs, by Gymnasium's rule: an int s gives env i the seed s + i.

    Raises:
        ConfigError: for a list of another length.
    """
    if seed is None:
        return [None] * n
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(n)]
    if len(seed) != n:
        raise ConfigError(f"seed={seed!r}: a list needs one seed for each of the {n} envs")
    return list(seed)


def new_stream(seed: int) -> np.random.Generator:
    """The generator that ``env.reset(seed=seed)`` makes."""
    return seeding.np_random(seed)[0]


def get_stream_state(rng: np.random.Generator) -> dict[str, Any]:
    """The generator's state as a dict of ints and strings."""
    state: dict[str, Any] = _plain(rng.bit_generator.state)
    return state


def restore_stream(state: dict[str, Any]) -> np.random.Generator:
    """A new generator that goes on where the saved one stood."""
    bit_generator: np.random.BitGenerator = getattr(np.random, state["bit_generator"])()
    bit_generator.state = state
    return np.random.Generator(bit_generator)


def _plain(value: Any) -> Any:
    """Replace NumPy values by lists and Python numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
