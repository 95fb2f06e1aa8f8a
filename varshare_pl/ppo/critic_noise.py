"""The critic's weight noise in the value loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from varshare_pl.parallel import rank
from varshare_pl.random import Normals, NormalTable, array_stream, stream
from varshare_pl.sharing.base import Noise
from varshare_pl.sharing.torso import Torso

CriticNoise = Literal["local", "flipout", "weights", "mean"]


class CriticDraws:
    """Draws noise for the minibatches of one rollout, one after the other.

    Args:
        critic: Whose noise it is.
        mode: Its kind.
        seed: The run's seed.
        rollout: Index of the rollout.
    """

    def __init__(self, critic: Torso, mode: CriticNoise, seed: int, rollout: int) -> None:
        self._critic = critic
        self._sizes = critic.local_noise_sizes()
        self._mode = "mean" if self._sizes and not any(self._sizes) else mode
        self._of_weights = stream(seed, "critic_noise", rollout)
        self._of_rows = array_stream(seed, "critic_noise", rollout, rank())  # rows differ between processes
        self._table: NormalTable | None = None

    def __call__(self, groups: int, rows: int) -> Sequence[Noise] | None:
        """For a minibatch of (groups, rows) rows, like all others of the rollout; None for the posterior mean."""
        match self._mode:
            case "local":
                return self._critic.draw_local_noise(groups, rows, self._normals(groups * rows))
            case "flipout":
                return self._critic.draw_flipout_noise(groups, rows, self._of_weights, self._of_rows)
            case "weights":
                return self._critic.draw_weight_noise(self._of_weights)
            case "mean":
                return None

    def _normals(self, rows: int) -> Normals:
        if not self._sizes:  # a network of somebody else's, that does not tell
            return self._of_rows
        if self._table is None:
            like = next(self._critic.parameters())
            self._table = NormalTable([rows * size for size in self._sizes], self._of_rows, like.dtype, like.device)
        self._table.turn()
        return self._table
