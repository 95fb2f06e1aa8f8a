import json
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from varshare_pl.errors import ConfigError
from varshare_pl.results import images
from varshare_pl.results.cli import plot_command
from varshare_pl.results.colors import task_styles
from varshare_pl.results.columns import Column
from varshare_pl.results.files import read_diagnostics, read_heartbeat
from varshare_pl.results.lines import draw_tasks, spread
from varshare_pl.results.plots import plot_run
from varshare_pl.results.style import short_label

ALL = ["returns", "norms", "residuals", "sharing", "kl_sigma", "losses"]
NAMES = ["baseline", "short light pole", "long heavy pole", "low gravity", "$tight_limits$"]


def size_of(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def keep_columns(run, *prefixes):
    """Rewrite the heartbeat with only some of its columns."""
    rows = [line.split(",") for line in (run / "heartbeat.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name.startswith(prefixes)]
    (run / "heartbeat.csv").write_text("".join(",".join(row[i] for i in kept) + "\n" for row in rows))


@pytest.mark.parametrize(("num_tasks", "names"), [(1, ["alone"]), (5, NAMES), (50, None)])
def test_all_plots_for_few_and_many_tasks(make_run, num_tasks, names):
    run = make_run(num_tasks, rows=8, names=names)
    paths = plot_run(run)
    assert [path.stem for path in paths] == ALL
    assert all(path.parent == run / "plots" for path in paths)
    for path in paths:
        width, height = size_of(path)
        assert 700 < width < 1300
        assert 300 < height < 1100
    assert {path.name for path in (run / "plots").iterdir()} == {f"{name}.png" for name in ALL}  # nothing left behind


def test_the_same_files_give_the_same_images(make_run):
    run = make_run(5, rows=8, names=NAMES)
    before = [path.read_bytes() for path in plot_run(run)]
    assert [path.read_bytes() for path in plot_run(run)] == before


def test_the_arguments_overrule_the_runs_own_facts(make_run):
    run = make_run(2, rows=8, names=["up", "down"])
    (run / "diagnostics.csv").unlink()  # fewer plots, less time
    images = {plot_run(run)[0].read_bytes()}
    for changed in ({"solved_return": 100.0}, {"task_names": ["left", "right"]}, {"title": "something else"}):
        images.add(plot_run(run, **changed)[0].read_bytes())
    assert len(images) == 4


def test_a_method_without_task_weights_has_no_sharing_plots(make_run, drawn):
    run = make_run(2, rows=8, sharing=False)
    assert [path.stem for path in plot_run(run)] == ["returns", "kl_sigma", "losses"]
    keep_columns(run, "env_steps", "loss", "train", "eval")  # an older run: no KL of the policy either
    assert [path.stem for path in plot_run(run)] == ["returns", "losses"]


def test_missing_columns_and_files_cost_only_their_panels(make_run, drawn):
    run = make_run(2, rows=8)
    (run / "diagnostics.csv").unlink()
    assert [path.stem for path in plot_run(run)] == ["returns", "kl_sigma", "losses"]
    keep_columns(run, "env_steps", "train")
    assert [path.stem for path in plot_run(run)] == ["returns"]
    keep_columns(run, "env_steps")
    assert plot_run(run) == []


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_run_that_has_just_begun(make_run, rows):
    run = make_run(3, rows=rows)
    assert [path.stem for path in plot_run(run)] == (ALL if rows else [])


def test_values_that_are_not_finite_leave_gaps(make_run):
    run = make_run(2, rows=6)
    path = run / "heartbeat.csv"
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    cells[1:] = ["inf"] * (len(cells) - 1)
    lines[3] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    assert len(plot_run(run)) == len(ALL)


@pytest.mark.parametrize(
    ("scale", "sharing"), [(1.0, True), *((scale, False) for scale in (1.0, 0.1, 0.03, -0.03, 0.01, 1e-4, 1e7))]
)
def test_no_text_is_cut_or_lies_on_another_panel(make_run, monkeypatch, scale, sharing):
    run = make_run(2, rows=8, sharing=sharing)
    path = run / "heartbeat.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    places = [i for i, name in enumerate(lines[0]) if name in ("kl/policy", "loss/policy", "diagnostics/clip_fraction")]
    for cells in lines[1:]:
        for i in places:
            cells[i] = str(scale * float(cells[i]))
    path.write_text("".join(",".join(cells) + "\n" for cells in lines))

    figures = []
    monkeypatch.setattr(images, "write_image", lambda figure, path: figures.append(figure))
    plot_run(run)
    assert len(figures) == (len(ALL) if sharing else 3)
    for figure in figures:
        figure.draw_without_rendering()
        ends = [axes.get_window_extent().x1 for axes in figure.axes]
        for axes in figure.axes:
            start = axes.get_window_extent().x0
            low, high = axes.get_ylim()
            ticks = [
                text for text in axes.yaxis.get_ticklabels() if low <= text.get_position()[1] <= high
            ]  # others are hidden
            texts = [*ticks, *([axes.yaxis.label] if axes.get_ylabel() else [])]
            leftmost = min(text.get_window_extent().x0 for text in texts)
            assert leftmost > max((end for end in ends if end < start), default=0.0)
            factor, title = axes.yaxis.get_offset_text(), axes._left_title
            if factor.get_text():
                assert not title.get_window_extent().overlaps(factor.get_window_extent())


def test_a_column_with_a_panel_is_drawn_among_the_losses(make_run, monkeypatch):
    panelled = (Column("train/return_mean", "", "", panel="A new one"), Column("kl/policy", "", ""))
    monkeypatch.setattr("varshare_pl.results.plots.COLUMNS", panelled)
    titles = {}
    monkeypatch.setattr(
        images,
        "write_image",
        lambda figure, path: titles.update({path.stem: [axes._left_title.get_text() for axes in figure.axes]}),
    )
    plot_run(make_run(2, rows=4))
    assert titles["losses"] == ["A new one"]


def test_names_must_match_the_tasks(make_run):
    with pytest.raises(ConfigError, match="has 2 tasks, but 3 names"):
        plot_run(make_run(2, rows=2), task_names=["a", "b", "c"])


def test_lines_bridge_gaps_and_few_tasks_keep_their_names():
    axes = Figure().add_subplot()
    steps, nan = np.arange(4.0), np.nan
    values = np.array([[1, nan], [nan, 5], [3, nan], [4, 8]])
    handles = draw_tasks(axes, steps, values, ["up", "down"], np.array([1, 5, 3, 6.0]))
    assert [handle.get_label() for handle in handles] == ["up", "down", "mean"]
    up, down, mean = axes.lines
    assert up.get_xydata().tolist() == [[0, 1], [2, 3], [3, 4]]
    assert down.get_xydata().tolist() == [[1, 5], [3, 8]]
    assert mean.get_xydata().shape == (4, 2)


def test_many_tasks_share_a_legend_and_a_band():
    axes = Figure().add_subplot()
    values = np.arange(60.0).reshape(3, 20)
    values[1] = np.nan  # no evaluation at this rollout
    values = np.vstack([np.full(20, np.nan), values])  # nor at the first
    names = [f"t{m}" for m in range(20)]
    handles = draw_tasks(axes, np.arange(4.0), values, names, values.mean(axis=1))
    assert [h.get_label() for h in handles] == ["t0", "… dark to light …", "t19", "lowest to highest", "mean"]
    assert len(axes.lines) == 21
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().extents.tolist() == [1, 0, 3, 59]


def test_spread_over_tasks(make_run):
    run = make_run(3, rows=4)
    rows = read_diagnostics(run).where("sharing/mu_norm", "actor", "head")
    steps, mean, low, high = spread(rows)
    by_hand = np.stack([rows.where(task=m).value for m in range(3)])
    assert steps.tolist() == read_heartbeat(run)["env_steps"].tolist()
    np.testing.assert_allclose(mean, by_hand.mean(axis=0))
    np.testing.assert_array_equal(low, by_hand.min(axis=0))
    np.testing.assert_array_equal(high, by_hand.max(axis=0))


@pytest.mark.parametrize("num_tasks", [1, 8, 9, 50])
def test_every_task_has_a_colour_of_its_own(num_tasks):
    assert len({look.color for look in task_styles(num_tasks)}) == num_tasks


def test_ticks():
    assert [short_label(v) for v in (0, 500, 1000, 12_500, 200_000, 1_500_000, -25_000)] == (
        ["0", "500", "1k", "12.5k", "200k", "1.5M", "-25k"]
    )


def test_the_command_prints_what_it_wrote(make_run, capsys, drawn):
    runs = [make_run(1, rows=4, sharing=False), make_run(2, rows=4)]
    assert plot_command([str(run) for run in runs]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        str(run / "plots" / f"{name}.png")
        for run, names in ((runs[0], ["returns", "kl_sigma", "losses"]), (runs[1], ALL))
        for name in names
    ]


def test_the_command_refuses_what_is_no_run(tmp_path, capsys):
    with pytest.raises(ConfigError, match="is not a folder"):
        plot_command([str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match=r"no heartbeat\.csv"):
        plot_command([str(tmp_path)])
    with pytest.raises(SystemExit):
        plot_command(["--help"])
    assert "Draw a run's plots again" in capsys.readouterr().out


def test_a_run_json_with_more_in_it_is_fine(make_run, drawn):
    run = make_run(2, rows=4)
    (run / "run.json").write_text(json.dumps({"seed": 3, "packages": {}, "solved_return": None}))
    assert len(plot_run(run)) == len(ALL)
