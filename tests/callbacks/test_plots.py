import pytest
from recording import make_suite, record_run

import varshare_pl.results.plots as plots_module
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.plots import Plots


@pytest.fixture
def drawn(monkeypatch):
    """Count what would be drawn, without drawing it."""
    calls = []
    monkeypatch.setattr(plots_module, "plot_run", lambda run, *facts, kind: calls.append((run, *facts)))
    return calls


def test_the_end_of_a_fit_draws_real_images(tmp_path):
    record_run(tmp_path, [Heartbeat(), Plots()], suite=make_suite("up", "down"))
    written = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert {"returns.png", "losses.png"} <= written.keys()
    assert all(image.startswith(b"\x89PNG") for image in written.values())


def test_pdf_beside_each_image(tmp_path):
    record_run(tmp_path, [Heartbeat(), Plots(pdf=True)], suite=make_suite("up", "down"))
    files = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"returns.png", "returns.pdf", "losses.png", "losses.pdf"} <= files
    assert (tmp_path / "plots" / "returns.pdf").read_bytes().startswith(b"%PDF")


def test_drawn_at_the_end_only_with_the_suites_facts(tmp_path, drawn):
    record_run(tmp_path, [Plots()], suite=make_suite("up", "down"))
    assert drawn == [(tmp_path, 475.0, ["up", "down"])]


def test_a_run_without_a_suite_leaves_the_facts_to_its_files(tmp_path, drawn):
    record_run(tmp_path, [Plots()])
    assert drawn == [(tmp_path, None, None)]


@pytest.mark.parametrize(("every", "times"), [(0, 1), (512, 3), (256, 5), (1, 5), (1000, 2)])
def test_drawn_every_so_many_env_steps(tmp_path, drawn, every, times):
    record_run(tmp_path, [Plots(every=every)], rollouts=4)
    assert len(drawn) == times


def test_turned_off(tmp_path, drawn):
    record_run(tmp_path, [Plots(every=256, enabled=False)])
    assert drawn == []


def test_a_plot_that_fails_warns_in_one_line_and_the_run_goes_on(tmp_path):
    with pytest.warns(UserWarning, match="the plots were not drawn: ConfigError: no heartbeat.csv") as caught:
        record_run(tmp_path, [Plots()])
    assert all("\n" not in str(warning.message) for warning in caught)
