import random

import numpy as np
import torch

from varshare_pl.random import stream, stream_seed

KNOWN = {("weight_noise", 0): 1185583680513058626, ("weight_noise", 7): 1185583681914239825}


def draw(*key):
    return torch.rand(4, generator=stream(*key)).tolist()


def test_the_same_key_draws_the_same():
    assert draw(1, "weight_noise", 3) == draw(1, "weight_noise", 3)


def test_seed_name_and_every_counter_count():
    keys = [(1, "a", 3), (2, "a", 3), (1, "b", 3), (1, "a", 4), (1, "a", 3, 1), (1, "a", 1, 3), (3, "a", 1)]
    keys += [(1, "a"), (1, "a", 0), (1, "a", 0, 0)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_streams_do_not_touch_global_generators_nor_hang_on_them():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    first = draw(1, "a", 3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert draw(1, "a", 3) == first
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    draw(1, "a", 3)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_seed_fits_torch_and_is_known():
    seeds = {stream_seed(1, "a", k) for k in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
    # Written down once: a change would change every run.
    assert {key: stream_seed(1, *key) for key in KNOWN} == KNOWN


def test_the_counters_of_a_stream_never_draw_the_same():
    """Torch's generator on the CPU takes the low 32 bits; by chance 150,000 seeds meet there in 9 cases of 10.

    So would these, if the last counter were mixed as the others are.
    """
    low = {stream_seed(1, "weight_noise", rollout) % 2**32 for rollout in range(150_000)}
    assert len(low) == 150_000


def test_torch_takes_the_low_32_bits():
    """Why the test before looks at them."""

    def first(seed):
        return torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()

    seed = stream_seed(1, "a", 3)
    assert first(seed) == first(seed % 2**32)
    assert first(seed) != first(seed + 1)
