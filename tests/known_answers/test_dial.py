"""The measure of sharing on suites whose answer is known: the dial, two clusters, an outlier."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from known_runs import train

from varshare_pl.results.files import read_diagnostics
from varshare_pl.results.heat_map import pair_matrices

pytestmark = pytest.mark.slow
SEEDS = (1, 2, 3)
ANGLES = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_sharing_falls_as_the_dial_turns(tmp_path: Path, seed: int) -> None:
    """Copies of one best head turned by φ_m have S = |mean over m of exp(i φ_m)|², from 1 down to 0."""
    heads = []
    for angle in ANGLES:
        suite = f"{{name: PointMassDial, angle: {angle}}}"
        summary, energy = train(tmp_path / str(angle), seed, "--config", "point_mass_dial", "--data.suite", suite)
        assert summary["final"]["success_mean"] >= 0.9
        assert min(energy["layer_1"], energy["layer_2"]) >= 0.95
        heads.append(energy["head"])
    assert all(further < nearer for nearer, further in pairwise(heads)), heads
    assert heads[0] >= 0.9
    assert heads[-1] <= 0.25


@pytest.mark.parametrize(("angle", "low", "high"), [(0.5, 0.35, 0.75), (1.0, 0.05, 0.3)])
@pytest.mark.parametrize(("num_tasks", "width"), [(2, 64), (12, 64), (6, 32), (6, 256)])
def test_the_heads_sharing_hardly_hangs_on_sizes(
    tmp_path: Path, num_tasks: int, width: int, angle: float, low: float, high: float
) -> None:
    """Of 42 runs with 2 to 12 tasks and widths 32 to 256, S was 0.51 to 0.70 at half the angle, 0.06 to 0.24 at all."""
    suite = f"{{name: PointMassDial, angle: {angle}, num_tasks: {num_tasks}}}"
    rate = str(3e-3 * min(1.0, 64 / width))  # wide layers take smaller steps
    sizes = ("--model.hidden_sizes", f"[{width}, {width}]", "--model.lr_actor", rate, "--model.lr_critic", rate)
    _, energy = train(tmp_path, 1, "--config", "point_mass_dial", "--data.suite", suite, *sizes)
    assert low <= energy["head"] <= high


def actor_head(logs: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (M, M) of the tasks' own weights in the actor's head at the end, and their norms (M,)."""
    last = (
        read_diagnostics(logs / "x" / f"seed_{seed}").at_end_of("sharing/energy").where(network="actor", layer="head")
    )
    return pair_matrices(last, "sharing/cosine", 6)["actor", "head"], last.where("sharing/mu_norm").value


@pytest.mark.parametrize("seed", SEEDS)
def test_the_residuals_show_the_clusters(tmp_path: Path, seed: int) -> None:
    _, energy = train(tmp_path, seed, "--config", "point_mass_clusters")
    cosines, _ = actor_head(tmp_path, seed)
    same = np.arange(6)[:, None] // 3 == np.arange(6)[None] // 3
    assert cosines[same].min() > cosines[~same].max()
    assert energy["head"] <= 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_residuals_name_the_outlier(tmp_path: Path, seed: int) -> None:
    train(tmp_path, seed, "--config", "point_mass_outlier")
    cosines, norms = actor_head(tmp_path, seed)
    assert norms.argmax() == 5
    assert (cosines.sum(1) - 1).argmin() == 5
