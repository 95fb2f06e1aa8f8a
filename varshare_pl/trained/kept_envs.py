"""The envs of a run's evaluations, kept from one evaluation to the next where nobody can tell them from new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gymnasium.vector import VectorEnv

from varshare_pl.envs import get_state
from varshare_pl.envs.seeding import stream_seed

Envs = VectorEnv[Any, Any, Any]


class KeptEnvs:
    """Envs that begin each evaluation as new ones would.

    To make them may take longer than to play: ten models of MuJoCo for Meta-World's MT10. The second evaluation looks
    whether that can be spared: it resets the envs that have played, with seeds, and then makes new ones with the same
    seeds. If both tell the same state, bit for bit, all that follows is the same, and the envs are kept from there on.
    If they differ, or an env cannot tell its state, each evaluation has new ones.
    """

    def __init__(self) -> None:
        self._envs: Envs | None = None
        self._as_new: bool | None = None  # whether a reset with seeds makes them so; None: not known yet

    @contextmanager
    def begun(self, make: Callable[[int], Envs], seed: int) -> Iterator[tuple[Envs, Any, dict[str, Any]]]:
        """Envs at the start of their first episodes, with the observations and infos of that; closed at an error.

        Args:
            make: Makes the envs for a seed; always the same ones.
            seed: Of the evaluation.
        """
        try:
            begin = self._begin(make, seed)
            yield begin
        except BaseException:
            self.close()
            raise
        if self._as_new is False:
            self.close()

    def close(self) -> None:
        """Close the envs; the next evaluation makes new ones."""
        envs, self._envs = self._envs, None
        if envs is not None:
            envs.close()

    def _begin(self, make: Callable[[int], Envs], seed: int) -> tuple[Envs, Any, dict[str, Any]]:
        played = None
        if self._envs is not None and self._as_new is None:
            _reset(self._envs, seed)
            played = get_state(self._envs)["envs"]
            self.close()  # before others are made: memory is to hold one set
        if self._envs is None:
            self._envs = make(seed)
        obs, info = _reset(self._envs, seed)
        if played is not None:
            told = all(env["env"] is not None for env in played)
            self._as_new = told and played == get_state(self._envs)["envs"]
        return self._envs, obs, info


def _reset(envs: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    """Begin with the streams that envs made for a seed have at their first reset."""
    obs, info = envs.reset(seed=[stream_seed(seed, place) for place in range(envs.num_envs)])
    return obs, info
