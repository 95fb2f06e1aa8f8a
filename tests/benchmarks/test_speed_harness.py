"""The harness's own arithmetic and texts; nothing is timed."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import docs, harness, history, methods
from benchmarks.__main__ import main
from benchmarks.cases import CASES, CPU_SPEED, SPEED, START, NotAvailableError
from benchmarks.flops import update_flops
from benchmarks.ratios import RATIOS, Ratio, UsageError, select
from benchmarks.report import report
from benchmarks.results import CaseResult, Results

FACTS = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "machine": {"cpu": "Some CPU", "cores": 2, "architecture": "x86_64"},
    "versions": {"python": "3.11.0", "torch": "2.6.0"},
    "rounds": 3,
    "scale": 1.0,
    "pinned": True,
}


def results(**rounds: list[dict[str, float]]) -> Results:
    """Results of these cases, of every ratio."""
    cases = {name: CaseResult(figures) for name, figures in rounds.items()}
    return Results(dict(FACTS), cases, [ratio.name for ratio in RATIOS])


def speeds(*values: float, start: float = 1.0) -> list[dict[str, float]]:
    return [{SPEED: value, CPU_SPEED: value, START: start} for value in values]


def ratio(name: str) -> Ratio:
    return next(ratio for ratio in RATIOS if ratio.name == name)


def test_every_ratio_has_its_cases_and_every_case_its_function() -> None:
    names = [ratio.name for ratio in RATIOS]
    assert len(names) == len(set(names))
    groups = {ratio.group for ratio in RATIOS}
    assert all(ratio.group == ratio.name for ratio in RATIOS if ratio.name in groups)  # --only takes both
    assert {case for ratio in RATIOS for case in ratio.cases} == set(CASES)
    for case in CASES.values():
        module, _, name = case.function.partition(":")
        assert callable(getattr(import_module(f"benchmarks.{module}"), name))


def test_ratios_are_taken_within_a_round() -> None:
    # The machine's speed drifts: the ratio of the medians would be 4/3.
    found = results(shared_b=speeds(60, 20, 40), sb3_b=speeds(30, 10, 40))
    assert found.values(ratio("eager_b")) == [2.0, 2.0, 1.0]
    assert found.medians() == {"eager_b": 2.0}
    assert found.reason(ratio("eager_a")) == "not measured"


def test_bars_count_from_below_or_above() -> None:
    assert ratio("eager_b").met([2.1, 2.2, 9.0]) is True
    assert ratio("eager_b").met([2.1, 2.1, 9.0]) is False
    assert ratio("lightning").met([1.0, 1.08, 2.0]) is True
    assert ratio("lightning").met([1.1, 1.09, 1.0]) is False
    assert ratio("gemm_64").met([0.1]) is None


def test_a_figure_alone_is_a_ratio_too() -> None:
    found = results(demo=[{"seconds": 12.0, "peak_mb": 400.0}, {"seconds": 13.0, "peak_mb": 410.0}])
    assert found.medians() == {"demo_seconds": 12.5, "demo_memory": 405.0}


def test_the_report_shows_bars_spread_and_what_is_missing() -> None:
    found = results(shared_b=speeds(60, 44, 50), sb3_b=speeds(20, 20, 20), varshare=speeds(10, 10, 10))
    found.cases["shared_b_compiled"] = CaseResult(reason="not available: PPOModule has no option compile")
    found.cases["shared"] = CaseResult(reason="failed: boom", failed=True)
    text = report(found)
    assert "| shared net / SB3, 32 envs × 128, minibatch 1,024 | 2.50 × | 2.20–3.00 × | ≥ 2.2 × | ≥ 3 × | met |" in text
    assert "minibatch 1,024 | – | – | ≥ 4.5 × | ≥ 6.7 × | not available |" in text
    assert "| 0.50 × | 0.50–0.50 × | ≥ 0.95 × |  | **missed** |" in text
    assert "VarShare / shared net, 5 tasks | – | – | ≥ 0.65 × | ≥ 0.8 × | failed |" in text
    assert "Some CPU, 2 cores" in text
    assert "abc1234" in text
    assert "- shared: failed: boom" in text
    assert "| varshare | 10 | 10–10 |" in text
    assert found.failed() == ["shared"]


def test_compile_times_are_apart() -> None:
    rounds = [*speeds(90, start=42.0), *speeds(90, 90, start=3.0)]
    text = report(results(shared_b_compiled=rounds, shared_b=speeds(50, 50, 50, start=0.2)))
    assert "| shared_b_compiled | 42.0 s | 3.0 s |" in text
    assert "| shared_b |" in text
    assert "| shared_b | 0.2 s" not in text


def test_other_figures_have_a_table() -> None:
    text = report(results(demo=[{"seconds": 12.0, "peak_mb": 400.0}, {"seconds": 13.0, "peak_mb": 410.0}]))
    assert "| demo | seconds | 12.5 | 12–13 |" in text
    assert "| the demo's training command | 12.5 s | 12.0–13.0 s | ≤ 14 s | ≤ 10 s | met |" in text


def test_results_survive_json(tmp_path: Path) -> None:
    found = results(shared_b=speeds(60, 40), sb3_b=speeds(20, 20))
    found.write(tmp_path / "x.json")
    assert Results.read(tmp_path / "x.json") == found
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["ratios"]["eager_b"]["median"] == 2.5
    assert content["ratios"]["eager_b"]["met"] is True
    assert content["ratios"]["eager_a"]["values"] == []


def test_the_history_tells_what_got_worse(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert history.recorded(path) == {}
    history.append(path, results(shared_b=speeds(60), sb3_b=speeds(20), varshare=speeds(20), varshare_bare=speeds(21)))
    history.append(path, results(shared_b=speeds(80), sb3_b=speeds(20)))  # only some of them
    before = history.recorded(path)
    assert before == {"eager_b": 4.0, "varshare_rival": 1.0, "lightning": 1.05}
    line = json.loads(path.read_text().splitlines()[0])
    assert line["commit"] == "abc1234"
    assert line["machine"]["cpu"] == "Some CPU"

    changes = history.compare(before, {"eager_b": 3.0, "lightning": 1.26, "env_sync": 12.0, "varshare_rival": 1.1})
    assert {change.name: round(change.worse, 6) for change in changes} == {
        "eager_b": 0.25,
        "lightning": 0.2,  # at most: higher is worse
        "varshare_rival": -0.1,
    }
    table = history.comparison_table(changes, 0.22)
    assert "| eager_b | 4.00 | 3.00 | **worse by 25%** |" in table
    assert "| lightning | 1.05 | 1.26 | as before" in table


def test_only_quick_ratios_that_machines_share_are_checked() -> None:
    quick = [ratio for ratio in RATIOS if ratio.quick]
    assert len(quick) >= 5
    assert all(ratio.unit == "×" for ratio in quick)


@pytest.mark.parametrize(("now", "code"), [(3.0, 1), (3.5, 0)])
def test_check_ends_with_1_if_a_ratio_fell(now, code, tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "history.jsonl"
    history.append(path, results(shared_b=speeds(80), sb3_b=speeds(20)))
    monkeypatch.setattr(harness, "measure", lambda *_, **__: results(shared_b=speeds(20 * now), sb3_b=speeds(20)))
    assert main(["check", "--history", str(path), "--rounds", "1"]) == code
    assert ("eager_b got worse by 25%: 3.00, recorded 4.00" in capsys.readouterr().err) is bool(code)


def test_check_without_a_record_says_so(tmp_path, capsys) -> None:
    assert main(["check", "--history", str(tmp_path / "none.jsonl")]) == 2
    assert "--record" in capsys.readouterr().err


def test_names_and_groups_select() -> None:
    assert [ratio.name for ratio in select(["envs", "eager_a"])] == ["eager_a", "env_vector", "env_sync"]
    assert len(select(None)) == len(RATIOS)
    with pytest.raises(UsageError, match="nonsense: unknown"):
        select(["nonsense"])


def test_a_case_that_cannot_run_or_breaks_does_not_end_the_others(monkeypatch) -> None:
    def run_case(name, scale, env):
        if name == "env_gymnasium_vector":
            raise NotAvailableError("not here")
        if name == "env_gymnasium_sync":
            raise harness.CaseFailedError("boom", "traceback")
        return {SPEED: 2.0}

    monkeypatch.setattr(harness, "run_case", run_case)
    found = harness.measure(select(["envs"]), rounds=2)
    assert found.cases["env_batched"].rounds == [{SPEED: 2.0}] * 2
    assert found.cases["env_gymnasium_vector"] == CaseResult(reason="not available: not here")
    assert found.failed() == ["env_gymnasium_sync"]
    assert found.medians() == {}


def test_flops_of_an_update() -> None:
    layers = [("actor", 4, 8), ("actor", 8, 2), ("critic", 4, 8), ("critic", 8, 1)]
    products = 2 * 10 * (2 * 32 + 3 * 16 + 2 * 32 + 3 * 8)  # rows; the first layers' inputs need no gradient
    assert update_flops(layers, rows=10, epochs=4) == 4 * products + 2 * 10 * (32 + 8)


def test_the_page_gets_tables_and_chart(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("before\n\n<!-- speed -->\nold\n<!-- /speed -->\n\nafter\n", encoding="utf-8")
    found = results(
        sb3_a=speeds(10, 11, 12),
        shared_a=speeds(30, 33, 36),
        sb3_b=speeds(20, 20, 20),
        shared_b=speeds(60, 40, 50),
        shared_b_compiled=[*speeds(90, start=42.0), *speeds(90, 90, start=3.0)],
    )
    docs.write_speed(found, page, tmp_path / "docs" / "speed.png")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n\n<!-- speed -->\n![")
    assert text.endswith("<!-- /speed -->\n\nafter\n")
    assert "old" not in text
    assert "(docs/speed.png)" in text
    assert "32 envs × 128 steps, minibatch 1,024 | 20 | 50 | 90 |" in text
    assert "8 envs × 256 steps, minibatch 64 | 11 | 33 | – |" in text
    assert "after 42 s the first time, after 3 s with" in text
    assert "VarShare" not in text  # not measured
    assert (tmp_path / "docs" / "speed.png").stat().st_size > 5000


def test_the_page_takes_no_trial_figures(tmp_path: Path) -> None:
    found = results(shared_b=speeds(60), sb3_b=speeds(20))
    found.facts["scale"] = 0.05
    with pytest.raises(UsageError, match="less work"):
        docs.write_docs(found)
    with pytest.raises(UsageError, match="less work"):
        history.append(tmp_path / "history.jsonl", found)


def test_methods_have_a_table_of_their_own(tmp_path: Path) -> None:
    page, chart = tmp_path / "methods" / "index.md", tmp_path / "cost.png"
    page.parent.mkdir()
    page.write_text("<!-- speed -->\n<!-- /speed -->\n", encoding="utf-8")
    found = results(
        method_shared=speeds(100, 100, 50),
        method_paco=speeds(20, 10, 10),
        method_moore=speeds(10, 10, 10),
        tasks_5_paco=speeds(20, 25),
        tasks_50_paco=speeds(10, 10),
    )
    assert methods.write_page(found, page, chart)
    text = page.read_text(encoding="utf-8")
    assert "| [shared](shared.md) | 100 | 1 × | | | |" in text
    assert "| [paco](paco.md) | 10 | 0.20 × | 0.10–0.20 × | ≥ 0.15 × | met |" in text
    assert "| [moore](moore.md) | 10 | 0.10 × | 0.10–0.20 × | ≥ 0.15 × | **missed** |" in text
    assert "](../cost.png)" in text
    assert chart.stat().st_size > 5000
    assert methods.costs(found, "paco") == {5: 1e6 / 22.5, 50: 1e5}
    assert "paco" not in docs.promise_table(found).replace("paco, 50 tasks", "")
    assert not docs.write_speed(found)  # no training loop of the page was measured
    assert not methods.write_page(results(shared_b=speeds(60)), page, chart)


def test_figures_that_no_page_shows_are_refused() -> None:
    with pytest.raises(UsageError, match="none of these figures"):
        docs.write_docs(results(env_batched=speeds(60)))


def test_our_page_has_the_markers() -> None:
    text = docs.PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- speed -->") == text.count("<!-- /speed -->") == 1
