"""The layers of finished runs at their end: on the page, in its figures and in scores.csv."""

import numpy as np
import pytest
from seed_runs import numbers_of, report, write_seed
from test_report_studies import write_study

pytestmark = pytest.mark.usefixtures("drawn")

TURNED = {"near": [0.9, 0.8], "far": [0.2, 0.4]}  # the energy of the actor's head, by suite and seed
COSINES = {(0, 1): [-0.5, -0.7], (0, 2): [0.9, 0.7], (1, 2): [-0.6, np.nan]}  # by pair of tasks and seed


@pytest.fixture
def dial(tmp_path):
    """Two suites of three tasks, two seeds each, and a method without residuals."""
    folder = write_study(
        tmp_path / "dial",
        [(suite, method) for suite in TURNED for method in ("varshare", "shared")],
        expected_head_energy={"near": 0.85, "far": 0.25},
    )
    for suite, energies in TURNED.items():
        for method in ("varshare", "shared"):
            for seed, energy in enumerate(energies, 1):
                final = [95.0, 92.0, 91.0]
                options = {"ratio": 0.5} if method == "varshare" else {}
                place = folder / f"{suite}_{method}"
                run = write_seed(place, seed, [final] * 4, {3: final}, final, method=method, **options)
                if method == "varshare":
                    _share(run, seed, energy)
    return folder


def _share(run, seed, energy):
    """Energies and cosines of the third and the fourth rollout."""
    rows = [
        row
        for steps, value in ((300, 0.1), (400, energy))
        for row in (
            f"{steps},sharing/energy,actor,head,,{value}",
            f"{steps},sharing/energy,critic,head,,0.95",
            *(
                f"{steps},sharing/cosine_with_{k},actor,head,{m},{values[seed - 1]}"
                for (m, k), values in COSINES.items()
            ),
        )
    ]
    path = run / "diagnostics.csv"
    header, *known = path.read_text().splitlines()
    rows = sorted([*known, *rows], key=lambda row: int(row.partition(",")[0]))
    path.write_text("\n".join([header, *rows]) + "\n")


def test_numbers_of_the_end_by_hand(dial, capsys):
    report(dial, capsys)
    head = {"suite": "near", "method": "varshare", "network": "actor", "layer": "head"}
    energy = [(row["seed"], float(row["value"])) for row in numbers_of(dial, metric="final/energy", **head)]
    assert energy == [("1", 0.9), ("2", 0.8), ("", pytest.approx(0.85))]
    norms = numbers_of(dial, metric="final/mu_norm", task="2", **head)  # the norm of task m is m times the seed
    assert [float(row["value"]) for row in norms] == [2, 4, 3]
    assert float(norms[-1]["std"]) == pytest.approx(np.sqrt(2))
    cosines = {
        (row["task"], row["metric"][-1]): float(row["value"])
        for row in numbers_of(dial, **head)
        if row["metric"].startswith("final/cosine_with_")
    }
    assert cosines == pytest.approx({("0", "1"): -0.6, ("0", "2"): 0.8, ("1", "2"): -0.6})
    assert not [row for row in numbers_of(dial, method="shared") if row["metric"] in ("final/energy", "final/mu_norm")]


def test_energy_by_suite_stands_on_top(dial, capsys, drawn):
    report(dial, capsys)
    assert list(drawn)[:3] == ["answer", "solving", "sharing_by_suite"]
    assert list(drawn["sharing_by_suite"]) == ["varshare: actor", "varshare: critic"]
    actor = drawn["sharing_by_suite"]["varshare: actor"]
    assert [label.get_text() for label in actor.get_yticklabels()] == ["near", "far"]
    dots = [line.get_xdata().tolist() for line in actor.get_lines() if line.get_marker() == "o"]
    assert dots == [[0.9, 0.8], [0.2, 0.4]]
    lines = {line.get_label(): line.get_xdata() for line in actor.get_lines() if line.get_marker() != "o"}
    assert list(lines) == ["head", "expected of the head"]
    np.testing.assert_allclose(lines["head"], [0.85, 0.3])
    np.testing.assert_allclose(lines["expected of the head"], [0.85, 0.25])
    critic = drawn["sharing_by_suite"]["varshare: critic"]
    assert [line.get_label() for line in critic.get_lines() if line.get_marker() != "o"] == ["head"]


def test_norms_and_cosines_of_each_method_are_on_the_page(dial, capsys, drawn):
    report(dial, capsys)
    norms = drawn["residuals_near_varshare"]
    assert list(norms) == ["Actor", "Critic"]
    assert [label.get_text() for label in norms["Actor"].get_yticklabels()] == ["up", "down", "t2"]
    means = {line.get_label(): line.get_xdata().tolist() for line in norms["Actor"].get_lines()[-1:]}
    assert means == {"head": [0.0, 1.5, 3.0]}
    assert not [name for name in drawn if name.startswith("residuals") and name.endswith("shared")]
    page = (dial / "report" / "report.md").read_text()
    for suite in TURNED:
        image = f"similarity_{suite}_varshare.png"
        assert f"(figures/{image})" in page
        assert (dial / "report" / "figures" / image).exists()
        assert (dial / "report" / "figures" / image).with_suffix(".svg").is_file()
    assert "similarity_near_shared" not in page
