"""Named random streams: every draw of a run hangs on (seed, stream name, counter), never on a global generator.

A stream that starts anew for each rollout has no state to save: a resumed run draws the same numbers as an
uninterrupted one, every rank draws the same, and adding a consumer (an evaluation, say) moves no other stream.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """A 63-bit seed for the stream ``name`` at ``counters`` (NumPy's SeedSequence mixes them)."""
    # The count of counters keeps (name) and (name, 0) apart: SeedSequence does not see trailing zeros.
    entropy = [seed, zlib.crc32(name.encode()), len(counters), *counters]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def stream(seed: int, name: str, *counters: int) -> torch.Generator:
    """A fresh CPU generator for the stream ``name`` at ``counters``, e.g. ``stream(seed, "weight_noise", rollout)``."""
    return torch.Generator().manual_seed(stream_seed(seed, name, *counters))
