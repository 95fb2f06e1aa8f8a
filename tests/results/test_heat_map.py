"""Matrices of pairs of tasks: read back, ordered by likeness, and drawn."""

import numpy as np
import pytest

from varshare_pl.results.files import Diagnostics
from varshare_pl.results.heat_map import pair_matrices, similar_first


def diagnostics(rows):
    steps, metric, network, layer, task, value = zip(*rows, strict=True)
    return Diagnostics(*map(np.array, (steps, metric, network, layer, task)), np.array(value, float))


def test_pairs_become_matrices_by_network_and_layer():
    rows = [
        (10, "a/cosine_with_1", "actor", "layer_1", 0, 0.5),
        (10, "a/cosine_with_2", "actor", "layer_1", 0, np.nan),
        (20, "a/cosine_with_1", "actor", "layer_1", 0, 0.7),
        (20, "a/cosine_with_2", "actor", "layer_1", 1, -1.0),
        (20, "a/cosine_with_2", "critic", "", 0, 0.25),
        (20, "b/cosine_with_2", "critic", "", 0, 0.9),
    ]
    found = pair_matrices(diagnostics(rows), "a/cosine", 3)
    assert list(found) == [("actor", "layer_1"), ("critic", "")]
    expected = [[1.0, 0.6, np.nan], [0.6, 1.0, -1.0], [np.nan, -1.0, 1.0]]
    np.testing.assert_allclose(found["actor", "layer_1"], expected)
    assert found["critic", ""][0, 2] == found["critic", ""][2, 0] == 0.25


def cosines_of(angles):
    angles = np.deg2rad(angles)
    return np.cos(angles[:, None] - angles[None])


@pytest.mark.parametrize("seed", range(5))
def test_clusters_stand_side_by_side(seed):
    angles = np.array([0, 2, 4, 180, 182, 184.0])
    shuffle = np.random.default_rng(seed).permutation(6)
    order = similar_first(cosines_of(angles[shuffle]))
    first = angles[shuffle][order] < 90
    assert sorted(order) == list(range(6))
    assert first.tolist() in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)


@pytest.mark.parametrize("seed", range(5))
def test_tasks_on_an_arc_stand_in_its_order(seed):
    angles = np.arange(6) * 30.0
    shuffle = np.random.default_rng(seed).permutation(6)
    found = angles[shuffle][similar_first(cosines_of(angles[shuffle]))]
    assert found.tolist() in (angles.tolist(), angles[::-1].tolist())


def test_an_order_without_any_cosine():
    assert sorted(similar_first(np.full((3, 3), np.nan))) == [0, 1, 2]
