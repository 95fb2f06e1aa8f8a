import math
import random

import numpy as np
import pytest
import torch

from varshare_pl.random import NormalTable, array_stream, normal, stream, stream_seed

KNOWN = 1185583680513058626
KNOWN_DRAWS = [-1.2656002, 0.0473479144, -0.248829052, -1.24787045]


def draw(*key):
    return torch.rand(4, generator=stream(*key)).tolist()


def test_the_same_key_draws_the_same():
    assert draw(1, "weight_noise", 3) == draw(1, "weight_noise", 3)


def test_seed_name_and_every_counter_count():
    keys = [(1, "a", 3), (2, "a", 3), (1, "b", 3), (1, "a", 4), (1, "a", 3, 1), (1, "a", 1, 3), (3, "a", 1)]
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
    normal((100,), array_stream(1, "a", 3))
    normal((100,), array_stream(1, "a", 3), torch.float64)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_seed_fits_torch_and_is_known():
    seeds = {stream_seed(1, "a", k) for k in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
    # Written down once: a change would change every run.
    assert stream_seed(1, "weight_noise", 0) == KNOWN


def test_array_streams_are_streams_too():
    def numbers(*key):
        return tuple(array_stream(*key).random(4))

    assert numbers(1, "a", 3) == numbers(1, "a", 3)
    keys = [(1, "a", 3), (2, "a", 3), (1, "b", 3), (1, "a", 4), (1, "a", 3, 1), (1, "a", 1, 3), (3, "a", 1)]
    assert len({numbers(*key) for key in keys}) == len(keys)


DTYPES = [torch.float32, torch.float64]
N = 400_000


def draws(dtype, size=N, seed=1):
    return normal((size,), array_stream(seed, "normal"), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_has_the_moments(dtype):
    """Within 4 standard errors, in both halves that Box and Muller's method makes; the seed is fixed."""
    for z in (draws(dtype), draws(dtype)[: N // 2], draws(dtype)[N // 2 :]):
        z, n = z.double(), len(z)
        # Moments 1 to 4 of a normal are 0, 1, 0, 3; the variances of their estimates 1, 2, 15, 96 over n.
        for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
            assert abs(z.pow(power).mean() - expected) <= 4 * math.sqrt(variance / n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_has_the_distribution(dtype):
    """Kolmogorov and Smirnov: √n sup |F_n − F| is above 2.23 in 1 of 10,000 cases; the seed is fixed."""
    z = np.sort(draws(dtype).double().numpy())
    exact = np.array([0.5 * (1.0 + math.erf(x / math.sqrt(2.0))) for x in z])
    below, above = np.arange(N) / N, np.arange(1, N + 1) / N
    assert math.sqrt(N) * max((exact - below).max(), (above - exact).max()) < 2.23


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_has_the_tails(dtype):
    """How many lie beyond 3, within 4 standard errors, on each side."""
    z, p = draws(dtype), 0.5 * math.erfc(3.0 / math.sqrt(2.0))
    for beyond in (z > 3.0, z < -3.0):
        assert abs(int(beyond.sum()) - N * p) <= 4 * math.sqrt(N * p)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_draws_are_independent(dtype):
    """Neighbours, and the two that come from one pair of uniforms: correlations within 4 standard errors.

    Of the squares too, for the pair has a radius in common.
    """
    z = draws(dtype).double()
    half = N // 2
    for a, b in ((z[:-1], z[1:]), (z[:half], z[half:])):
        for power in (1, 2):
            x, y = a.pow(power), b.pow(power)
            correlation = ((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std())
            assert abs(correlation) <= 4 / math.sqrt(len(a))


class FixedBits:
    """In place of a generator: the same 64 bits for ever."""

    def __init__(self, bits):
        self.bit_generator = self
        self.bits = bits

    def random_raw(self, size):
        return np.full(size, self.bits, np.uint64)


@pytest.mark.parametrize("bits", [0, 2**64 - 1, 2**32 - 1, 2**64 - 2**32, 1, 2**63, 2**31])
def test_the_ends_of_the_uniforms_give_finite_numbers(bits):
    z = normal((8,), FixedBits(bits))
    assert z.isfinite().all()
    assert (z.abs() < 6.8).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (0,), (7, 11), (2, 0, 3), (5, 1, 3), (1, 1), (64, 33)], ids=str)
def test_normal_of_any_shape(shape, dtype):
    z = normal(shape, array_stream(1, "a"), dtype)
    assert z.shape == shape
    assert z.dtype == dtype
    assert z.is_contiguous()
    assert z.isfinite().all()
    assert torch.equal(z, normal(shape, array_stream(1, "a"), dtype))
    assert len(z.unique()) >= 0.99 * z.numel()
    if z.numel():
        assert not torch.equal(z, normal(shape, array_stream(2, "a"), dtype))


def test_draws_follow_one_another():
    generator = array_stream(1, "a")
    first, second = normal((100,), generator), normal((100,), generator)
    assert not np.isin(first.numpy(), second.numpy()).any()


def test_known_draws():
    # Written down once: a change would change every run. The last digits are the mathematical library's.
    assert normal((4,), array_stream(1, "critic_noise", 0)).tolist() == pytest.approx(KNOWN_DRAWS, rel=1e-4, abs=1e-5)


SHAPES = [(5, 7, 3), (5, 7, 8), (5, 7, 1)]


def cut_turns(turns, dtype=torch.float32, seed=1, shapes=SHAPES):
    """The pieces of each turn."""
    sizes = [math.prod(shape) for shape in shapes]
    table = NormalTable(sizes, array_stream(seed, "table"), dtype, torch.device("cpu"))
    found = []
    for _ in range(turns):
        table.turn()
        found.append([table.cut(shape) for shape in shapes])
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_turn_of_a_table_cuts_different_numbers(dtype):
    for pieces in cut_turns(300, dtype):
        assert [tuple(piece.shape) for piece in pieces] == SHAPES
        assert all(piece.dtype == dtype and piece.is_contiguous() for piece in pieces)
        numbers = torch.cat([piece.flatten() for piece in pieces])
        assert len(numbers.unique()) >= len(numbers) - 1


def test_turns_start_at_different_places_all_over_the_table():
    starts = torch.tensor([pieces[0].storage_offset() for pieces in cut_turns(1000)])
    assert len(starts.unique()) == 1000
    assert (starts % NormalTable.STRIDE == 0).all()
    quarters = torch.bincount(starts // (NormalTable.SPARE // 4), minlength=4)
    assert (quarters - 250).abs().max() <= 5
    assert not torch.equal(starts, torch.tensor([pieces[0].storage_offset() for pieces in cut_turns(1000, seed=2)]))


def test_a_table_hangs_on_its_generator():
    first, again, other = (cut_turns(2, seed=seed)[1] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_pieces_longer_than_the_spare_part_fit():
    shape = (6, NormalTable.SPARE)
    ends = [p.storage_offset() + p.numel() for (p,) in cut_turns(50, shapes=[shape])]
    assert 1.23 < max(ends) / math.prod(shape) <= 1.25


def test_what_a_table_gives_over_many_turns_has_the_moments():
    """The table has 65 thousand numbers; the bounds are 4 standard errors of so many."""
    z = torch.cat([torch.cat([p.flatten() for p in pieces]) for pieces in cut_turns(1000)]).double()
    assert abs(z.mean()) <= 4 / math.sqrt(NormalTable.SPARE)
    assert abs(z.square().mean() - 1) <= 4 * math.sqrt(2 / NormalTable.SPARE)
