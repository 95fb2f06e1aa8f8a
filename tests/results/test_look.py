"""Figures for papers: their width, fonts and titles, as PDF, of runs and of reports."""

import json
import re

import matplotlib
import pytest
from seed_runs import write_seed, write_summary

import varshare_pl as vs
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError
from varshare_pl.results.images import write_image
from varshare_pl.results.look import Look
from varshare_pl.results.plots import run_figure
from varshare_pl.results.style import Panel, draw_sheet

PAPER = ["--format", "pdf", "--width", "3.3", "--no-titles", "--font-size", "8"]


def inches(pdf):
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf.read_bytes())
    return float(box[1]) / 72, float(box[2]) / 72


def texts(figure):
    found = figure.findobj(lambda artist: isinstance(artist, matplotlib.text.Text) and artist.get_visible())
    return [text for text in found if text.get_text().strip()]


def test_a_report_for_a_paper(three, capsys):
    assert main(["report", str(three), *PAPER]) == 0
    figures = three / "report" / "figures"
    assert {path.suffix for path in figures.iterdir()} == {".png", ".pdf"}
    for pdf in figures.glob("*.pdf"):
        assert inches(pdf)[0] == pytest.approx(3.3, abs=1e-3)
        content = pdf.read_bytes()
        assert b"/FontFile2" in content  # TrueType, embedded
        assert b"/Type3" not in content
        assert b"/Subtype /Image" not in content
    page = (three / "report" / "report.html").read_text()
    assert 'href="figures/answer.pdf">PDF<' in page


def test_another_format_replaces_the_files_of_the_first(three, capsys, drawn):
    figures = three / "report" / "figures"
    for kind, suffixes in (("svg", {".png", ".svg"}), ("pdf", {".png", ".pdf"}), ("png", {".png"})):
        assert main(["report", str(three), "--format", kind]) == 0
        assert {path.suffix for path in figures.iterdir()} == suffixes
    assert "<a href=" not in (three / "report" / "report.html").read_text().partition("</nav>")[2]


def test_all_text_has_the_font_size_and_titles_go(make_run):
    figure = run_figure(make_run(2), "losses", Look(width=3.3, font_size=8, titles=False))
    assert figure.get_figwidth() == 3.3
    assert figure.get_suptitle() == ""
    assert {text.get_fontsize() for text in texts(figure)} == {8}
    figure = run_figure(make_run(3), "losses", Look(width=6.75))
    assert figure.get_suptitle().startswith("Losses")
    assert len({axes.get_window_extent().x0 for axes in figure.axes}) == 2  # so many panels side by side


def test_a_single_panel_has_no_title_and_several_keep_theirs():
    panels = [Panel(name, "", lambda axes: []) for name in ("first", "second")]
    alone, both = (draw_sheet("all", part, 2, Look(titles=False)) for part in (panels[:1], panels))
    assert [axes._left_title.get_text() for axes in (*alone.axes, *both.axes)] == ["", "first", "second"]


def test_a_figure_is_drawn_once_for_each_file(tmp_path, monkeypatch):
    calls, draw = [], matplotlib.figure.Figure.draw
    monkeypatch.setattr(matplotlib.figure.Figure, "draw", lambda *args: (calls.append(args), draw(*args)))
    figure = draw_sheet("all", [Panel("first", "", lambda axes: [])], 1)
    for kind in ("png", "pdf", "svg"):
        write_image(figure, tmp_path / f"a.{kind}")
    assert len(calls) == 3


def test_each_panel_alone(three, capsys):
    assert main(["report", str(three), *PAPER, "--panels"]) == 0
    figures = {path.name for path in (three / "report" / "figures").glob("*.pdf")}
    assert {"answer.pdf", "curves_MadeUp_training_mean_std.pdf", "tasks_MadeUp_1_down.pdf"} <= figures
    assert "curves_MadeUp.pdf" not in figures
    assert all(inches(path)[1] < 4 for path in (three / "report" / "figures").glob("curves*.pdf"))


def test_plots_of_a_run_as_pdf(make_run, capsys):
    run = make_run(2, sharing=False)
    assert main(["plot", str(run), *PAPER]) == 0
    plots = run / "plots"
    assert {path.stem for path in plots.glob("*.pdf")} == {path.stem for path in plots.glob("*.png")}
    assert inches(plots / "returns.pdf")[0] == pytest.approx(3.3, abs=1e-3)


def test_from_python(make_run, tmp_path):
    run = make_run(2)
    (run / "config.yaml").write_text("{}\n")
    figure = vs.load_run(run).plot("returns", width=3.3, font_size=8, titles=False)
    figure.savefig(tmp_path / "returns.pdf")
    assert inches(tmp_path / "returns.pdf")[0] == pytest.approx(3.3, abs=1e-3)
    assert b"/FontFile2" in (tmp_path / "returns.pdf").read_bytes()
    vs.load_run(run).plot("returns_training", panels=True)
    with pytest.raises(ConfigError, match=r"^plot: returns is not allowed; returns_training, "):
        vs.load_run(run).plot("returns", panels=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "0"], "width: 0.0 is not allowed; 2 to 40 inches are"),
        (["--width", "nan"], "width: nan is not allowed; 2 to 40 inches are"),
        (["--font-size", "100"], "font_size: 100.0 is not allowed; 4 to 30 points are"),
        (["--format", "eps"], "argument --format: invalid choice: 'eps'"),
    ],
)
@pytest.mark.parametrize("command", ["report", "plot"])
def test_looks_that_no_figure_can_have(three, capsys, command, options, message):
    folder = three if command == "report" else three / "seed_1"
    assert main([command, str(folder), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (three / "report").exists()


def test_a_study_names_orders_and_colours_its_methods(tmp_path, capsys, drawn):
    study = tmp_path / "study"
    for method in ("base", "ours"):
        run = write_seed(study / f"up_{method}", 1, [[1.0, 2.0]] * 4, {1: [1, 2], 3: [95, 100]}, method="varshare")
        write_summary(run, [95.0, 100.0], 400)
    variants = [{"name": f"up_{method}", "suite": "up", "method": method} for method in ("base", "ours")]
    plan = {"name": "study", "variants": variants, "seeds": [1], "method_order": ["ours", "base"]}
    plan |= {"method_names": {"ours": "Ours (new)"}, "method_colors": {"base": "#123456"}}
    (study / "study.json").write_text(json.dumps(plan))
    assert main(["report", str(study)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("Ours (new)") < printed.index("base")
    axes = drawn["answer"]["up"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Ours (new)", "base"]
    assert "#123456" in {line.get_color() for line in axes.lines}
    assert "Ours (new)" in (study / "report" / "tables.tex").read_text()
    scores = (study / "report" / "scores.csv").read_text()
    assert ",ours," in scores  # the label, so that a name to show changes no number
    assert "Ours" not in scores
    (study / "study.json").write_text(json.dumps(plan | {"method_colors": {"base": "blau"}}))
    assert main(["report", str(study)]) == 2
    assert "method_colors.base: blau is not allowed; a colour of matplotlib is" in capsys.readouterr().err
