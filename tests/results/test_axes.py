"""Where the axes of curves end."""

import numpy as np
import pytest
from seed_runs import write_seed, write_summary

from varshare_pl.cli.main import main
from varshare_pl.results import images
from varshare_pl.results.panels import axis_end

X = np.linspace(0.0, 100.0, 101)


def rising(until, to=1.0):
    """A curve that rises evenly to a level, and stays."""
    return X, to * np.minimum(X / until, 1.0)


def test_the_axis_ends_where_the_last_line_has_settled():
    # from 95 % on a line counts as settled: at 16 and 40, whose median is 28
    assert axis_end([rising(16.0), rising(42.0)]) == (pytest.approx(1.15 * 40), 100.0)
    assert axis_end([rising(16.0), rising(16.0), rising(70.0)])[0] == pytest.approx(1.15 * 67)
    assert axis_end([rising(16.0), rising(16.0), rising(99.0)])[0] == 100.0


def test_the_axis_is_whole_where_lines_take_their_time_or_fall_again():
    assert axis_end([rising(16.0), rising(80.0)])[0] == 100.0
    x, y = rising(16.0)
    falls = np.where(x > 95, 0.5, y)
    assert axis_end([(x, falls)] * 2)[0] == 100.0
    assert axis_end([(x, np.where(x > 95, 0.97, y))])[0] == pytest.approx(1.15 * 15)  # a twentieth counts as nothing


def test_lines_of_other_lengths_and_of_one_level():
    (x, y), short = rising(16.0), slice(0, 31)
    assert axis_end([(x, y), (x[short], y[short])]) == (pytest.approx(1.15 * 16), 100.0)
    assert axis_end([(x + 1, np.ones(101))]) == (pytest.approx(1.15), 101.0)


def slowed(run, factor):
    """A run's heartbeat, so many times as slow."""
    path = run / "heartbeat.csv"
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    at = header.index("wall_time_s")
    for row in rows:
        row[at] = str(factor * float(row[at]))
    path.write_text("".join(",".join(row) + "\n" for row in [header, *rows]))


def experiments(folder, seconds):
    """Two methods that are at their level by the second of twelve evaluations; one takes so much longer."""
    for method, slow in (("varshare", 1.0), ("shared", seconds)):
        for seed in (1, 2):
            evals = {i: [20.0 * (i > 0) + seed, 20.0 * (i > 0)] for i in range(12)}
            run = write_seed(folder / method, seed, [[1.0, 2.0]] * 12, evals, method=method, total_env_steps=[1200])
            slowed(run, slow)
            write_summary(run, [20.0 + seed, 20.0], 1200)


def test_the_axes_of_a_report_end_alike_and_say_so(tmp_path, capsys, monkeypatch):
    figures = {}
    monkeypatch.setattr(images, "write_image", lambda figure, path: figures.setdefault(path.stem, figure))
    monkeypatch.setattr("varshare_pl.results.report.to_html", lambda *_: "")
    experiments(tmp_path / "both", 4.0)
    assert main(["report", str(tmp_path / "both")]) == 0
    axes = {one._left_title.get_text(): one for one in figures["curves_MadeUp"].axes}
    mean, wall = axes["Evaluation: mean ± std"], axes["Evaluation: IQM over wall time"]
    assert mean.get_xlabel() == "env steps (of 1.2k)"
    assert mean.get_xlim()[1] == pytest.approx(1.02 * 1.15 * 200)
    assert len({one.get_xlim() for one in figures["tasks_MadeUp"].axes}) == 1
    # each method's line goes to the end of its own runs, which the slower one reaches last
    ends = sorted(float(line.get_xdata()[-1]) for line in wall.lines if len(line.get_xdata()) > 2)
    assert ends == [30.0, 120.0]
    assert wall.get_xlim()[1] >= 1.15 * 4 * 2.5


def test_a_mean_over_wall_time_is_of_all_finished_runs(tmp_path, capsys, drawn):
    experiments(tmp_path / "both", 1.0)
    slowed(tmp_path / "both" / "varshare" / "seed_2", 1.5)
    assert main(["report", str(tmp_path / "both")]) == 0
    lines = drawn["curves_MadeUp"]["Evaluation: IQM over wall time"].lines
    ends = sorted(float(line.get_xdata()[-1]) for line in lines if len(line.get_xdata()) > 2)
    assert ends == [30.0, 30.0]  # not on to 45, where one run would be left
