"""The policies in the repository: small, loadable, and as good as their cards say."""

from pathlib import Path

import pytest
import yaml

from varshare_pl import load_policy
from varshare_pl.trained.evaluation import evaluate

POLICIES = Path(__file__).parents[2] / "policies"
SUITES = {
    "complex_cartpole": "ComplexCartPole",
    "point_mass_dial": "PointMassDial",
    "pendulum_family": "PendulumFamily",
}
LARGEST = 200_000  # bytes


def test_there_is_one_for_each_family_of_suites() -> None:
    assert {path.name for path in POLICIES.iterdir() if path.is_dir()} == set(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_a_shipped_policy_does_what_its_card_says(name: str) -> None:
    folder = POLICIES / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    policy = load_policy(folder)
    assert (policy.suite.name, policy.method) == (SUITES[name], "varshare")
    card = (folder / "README.md").read_text(encoding="utf-8")
    (result,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    told = result["metrics"][0]["value"]
    played = evaluate(policy.policy.deterministic(), policy.suite, episodes=50, seed=7, counter=1)
    returns = float(played.task_returns.mean())
    assert returns == pytest.approx(told, rel=0.15)  # other start states
    untrained = load_policy(folder)
    for parameter in untrained.policy.actor.parameters():
        parameter.zero_()
    worse = evaluate(untrained.policy.deterministic(), policy.suite, episodes=50, seed=7, counter=1)
    assert float(worse.task_returns.mean()) < returns - 0.3 * abs(told)
