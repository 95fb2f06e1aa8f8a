"""The ladders of mountain cars: who climbs by what others have learnt, and who has to go another way than they."""

from pathlib import Path

import numpy as np
import pytest
from known_runs import train

pytestmark = pytest.mark.slow


def mean_success(logs: Path, config: str, method: str, seeds: range) -> float:
    """Of the final policies, over seeds and tasks."""
    runs = [train(logs / str(s), s, "--config", config, "--config", f"methods/{method}") for s in seeds]
    return float(np.mean([summary["final"]["success_mean"] for summary, _ in runs]))


@pytest.mark.parametrize("method", ["shared", "varshare"])
def test_weak_engines_learn_from_strong_ones(tmp_path: Path, method: str) -> None:
    assert mean_success(tmp_path, "mountain_car_ladder", method, range(1, 4)) >= 0.9


def test_varshare_climbs_where_half_of_the_engines_are_reversed(tmp_path: Path) -> None:
    assert mean_success(tmp_path, "mountain_car_ladder_mirrored", "varshare", range(1, 6)) >= 0.85


@pytest.mark.parametrize("method", ["shared", "independent", "shared_onehot"])
def test_without_a_residual_reversed_engines_hold_others_back(tmp_path: Path, method: str) -> None:
    """One net for all climbs nothing, nets apart find no goal by chance, a task number in the input is not enough."""
    assert mean_success(tmp_path, "mountain_car_ladder_mirrored", method, range(1, 4)) <= 0.7
