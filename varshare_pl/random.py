"""Named random streams: (seed, stream name, counters) decide every draw of a run, never a global generator.

A stream that starts anew for each rollout has no state to save: a resumed run draws the same numbers as an
uninterrupted one, every rank draws the same, and adding a consumer (an evaluation, say) moves no other stream.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

# Torch's generator on the CPU takes 32 bits of a seed. Odd multiples of the last counter are all different there.
SPREAD = 0x9E3779B9
LOW_BITS = 2**32


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """The 63-bit seed of the stream ``name`` at ``counters``.

    NumPy's SeedSequence mixes what stands before the last counter. The last one moves the low 32 bits, the ones that
    torch uses on a CPU: streams that differ in nothing else never draw the same numbers, up to 2³² of them. Streams of
    different names or runs may, with probability 2⁻³² a pair.
    """
    *others, last = counters or (0,)
    # The count of counters keeps (name) and (name, 0) apart: SeedSequence does not see trailing zeros.
    entropy = [seed, zlib.crc32(name.encode()), len(counters), *others]
    mixed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
    high, low = divmod(mixed, LOW_BITS)
    return high * LOW_BITS + (low + last * SPREAD) % LOW_BITS


def stream(seed: int, name: str, *counters: int) -> torch.Generator:
    """A fresh CPU generator for the stream ``name`` at ``counters``, e.g. ``stream(seed, "weight_noise", rollout)``."""
    return torch.Generator().manual_seed(stream_seed(seed, name, *counters))
