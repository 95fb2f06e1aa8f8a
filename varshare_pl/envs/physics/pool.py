"""First states of coming episodes, drawn ahead: one call of a generator for many is far cheaper than one call each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, as_rows, row_type, write_observations
from varshare_pl.envs.seeding import get_stream_state

Ids = NDArray[np.int64]


class ResetPool:
    """Each env's next K first states, from its own random stream and in its order.

    Drawing ahead moves a generator on. What counts, and what ``stream_states`` tells, is the stream as if only the used
    states had been drawn; so its state before the K draws is kept, and the used ones are drawn again from there.

    Args:
        dynamics: draws the states.
        rngs: N generators, which belong to the pool from now on.
        size: K.
    """

    def __init__(self, dynamics: Dynamics, rngs: Sequence[np.random.Generator], size: int = 64) -> None:
        self._dynamics = dynamics
        self._rngs = list(rngs)
        self._before: list[Any] = [None] * len(rngs)
        self._stride = np.array(len(rngs))
        self._allocate(size)
        self._draw(range(len(rngs)))

    def _allocate(self, size: int) -> None:
        n = len(self._rngs)
        self.size = size
        self.fresh: FloatArray = np.empty((self._dynamics.state_size, size, n))
        self._flat = self.fresh.reshape(-1, size * n)
        self._obs = np.empty((size, n, *self._dynamics.observation_space.shape), dtype=np.float32)
        self._obs_rows = as_rows(self._obs, row_type(self._dynamics))
        self._end = size * n
        self._next = np.arange(n)  # the column of _flat that an env takes next

    @property
    def used(self) -> Ids:
        """(N,) how many states each env has taken; ``fresh[:, used[i], i]`` is its next one."""
        return self._next // len(self._rngs)

    @used.setter
    def used(self, used: Ids) -> None:
        self._next = used * len(self._rngs) + np.arange(len(self._rngs))

    def replace(self, i: int, rng: np.random.Generator) -> None:
        """Give env ``i`` another stream."""
        self._rngs[i] = rng
        self._draw([i])

    def take(self, ids: Ids) -> tuple[FloatArray, NDArray[np.void]]:
        """The next first states of the envs ``ids``, (S, len(ids)), and their observations as rows, (len(ids),)."""
        at = self._next[ids]
        if max(at.tolist(), default=0) >= self._end:
            self.refill(1)
            at = self._next[ids]
        self._next[ids] = at + self._stride
        return self._flat.take(at, axis=1), self._obs_rows[at]

    def refill(self, least: int) -> bool:
        """See to it that every env has at least ``least`` unused states; return whether any were drawn for that."""
        used = self.used
        ids = np.flatnonzero(used > self.size - least).tolist()  # all, if the pool is too small for that
        for i in ids:
            self._rewind(i, used[i])
        if least > self.size:
            self._allocate(2 * least)
        self._draw(ids)
        return len(ids) > 0

    def stream_states(self) -> list[dict[str, Any]]:
        """The state of each env's stream after the first states it has used, as plain data."""
        states = []
        for i, used in enumerate(self.used.tolist()):
            generator = self._rngs[i].bit_generator
            ahead = generator.state
            self._rewind(i, used)
            states.append(get_stream_state(self._rngs[i]))
            generator.state = ahead
        return states

    def _rewind(self, i: int, used: int) -> None:
        """Put a generator to where it stands after the used states."""
        if used < self.size:  # else it stands there
            self._rngs[i].bit_generator.state = self._before[i]
            self._dynamics.initial_states(self._rngs[i], used)

    def _draw(self, ids: Iterable[int]) -> None:
        for i in ids:
            self._before[i] = self._rngs[i].bit_generator.state
            self.fresh[:, :, i] = states = self._dynamics.initial_states(self._rngs[i], self.size).T
            write_observations(self._dynamics, tuple(states), self._obs[:, i])
            self._next[i] = i
