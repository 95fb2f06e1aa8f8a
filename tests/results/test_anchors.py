import numpy as np
import pytest
from seed_runs import numbers_of, report, write_seed

from benchmarks.anchors import random_returns
from varshare_pl.envs import PHYSICS_SUITES, get_suite
from varshare_pl.results.anchors import ANCHORS, anchors_of


@pytest.mark.parametrize("name", [name for name in PHYSICS_SUITES if (name, get_suite(name).version) in ANCHORS])
def test_the_low_anchors_are_the_returns_of_the_random_policy(name):
    suite = get_suite(name)
    anchors = anchors_of(name, suite.version, suite.num_tasks)
    assert anchors is not None
    returns = random_returns(name, episodes=4000, seed=7)
    error = returns.std(axis=1, ddof=1) / np.sqrt(returns.shape[1])
    # 4 standard errors on 24 tasks: a false alarm in 700 sets of seeds, and this one's seed is fixed
    np.testing.assert_array_less(np.abs(returns.mean(axis=1) - anchors.low), 4 * error + 0.1)
    assert (returns <= np.array(anchors.high)[:, np.newaxis]).all()


def test_scores_go_from_the_random_policy_to_the_most_that_can_be_earned():
    anchors = ANCHORS["ComplexCartPole", 0]
    returns = np.array([anchors.low, anchors.high, np.mean([anchors.low, anchors.high], axis=0)])
    np.testing.assert_allclose(anchors.scores(returns), [[0.0] * 5, [1.0] * 5, [0.5] * 5])


@pytest.mark.parametrize(("suite", "version", "tasks"), [("Mine", 0, 5), ("CartPole", 1, 1), ("CartPole", 0, 2)])
def test_another_suite_or_version_has_no_anchors(suite, version, tasks):
    assert anchors_of(suite, version, tasks) is None


@pytest.mark.parametrize("suite", ["Mine", "MirroredCartPole"])
def test_a_runs_own_anchors_come_first(suite, tmp_path, capsys, drawn):
    anchors = {"low": [0.0, 10.0], "high": [10.0, 30.0]}
    for seed in (1, 2):
        final = [4.0 + seed, 20.0]
        write_seed(tmp_path / "e", seed, [final] * 4, final=final, suite=suite, suite_version=0, anchors=anchors)
    report(tmp_path / "e", capsys)
    scores = {row["seed"]: float(row["value"]) for row in numbers_of(tmp_path / "e", metric="final/score", task="0")}
    assert (scores["1"], scores["2"]) == (0.5, 0.6)
    page = (tmp_path / "e" / "report" / "report.md").read_text()
    assert "low 0, 10, high 10, 30" in page
