"""Names of tasks, suites and methods in figures and documents: text, whatever they hold."""

import re

import pytest

from varshare_pl.results.document import Heading, Items, to_html, to_latex, to_markdown
from varshare_pl.results.drawing import Line2D
from varshare_pl.results.images import write_image
from varshare_pl.results.plots import plot_run
from varshare_pl.results.style import Panel, draw_sheet
from varshare_pl.results.table import text_table
from varshare_pl.results.tables import Table

NAMES = ["$\\foo$", "_b", "two\nlines", "日本 😀", "a|b & 50% #{x} \\", "x" * 200, "\x1b[31m<b>", "[1]", "*"]


def test_a_run_is_drawn_whatever_its_tasks_are_called(make_run):
    assert len(plot_run(make_run(9, rows=3, names=NAMES))) >= 3


def test_a_figure_shows_names_as_they_are(tmp_path):
    def draw(axes):
        return [Line2D([], [], label=name) for name in NAMES]

    panels = [Panel(name, name, draw, "Task", name) for name in NAMES]
    svg = write_image(draw_sheet(NAMES[0], panels, 3), tmp_path / "a.svg")
    texts = re.findall(r">([^<>]*)</text>", svg.read_text(encoding="utf-8"))
    for shown in ("$\\foo$", "_b", r"two\nlines", "日本 😀", r"\x1b[31m&lt;b&gt;"):
        assert texts.count(shown) >= 4, shown  # title, both labels, legend
    assert max(map(len, texts)) < 250


@pytest.mark.parametrize("usetex", [True, False])
def test_a_users_settings_of_formulas_do_not_matter(tmp_path, usetex):
    from matplotlib import rc_context

    with rc_context({"text.usetex": usetex, "text.parse_math": True}):
        write_image(draw_sheet("$a_b$", [Panel("$\\foo$", "$x", lambda axes: [])], 1), tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_rows_of_tables_stay_whole(tmp_path):
    table = Table("t\nt", ("task", *NAMES), [(name, *NAMES) for name in NAMES], "c\nc")
    blocks = [Heading(2, "a\nb"), Items(NAMES), table]
    lines = to_markdown(blocks, tmp_path).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(NAMES)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {2 + len(NAMES)}
    assert sum(line.startswith("- ") for line in lines) == len(NAMES)
    tex = to_latex([table]).splitlines()
    body = tex[tex.index(r"\midrule") + 1 : tex.index(r"\bottomrule")]
    assert len(body) == len(NAMES)
    assert {len(re.findall(r"(?<!\\)&", row)) for row in body} == {len(NAMES)}
    assert all(row.endswith(r" \\") and not row.startswith(("[", "*")) for row in body)
    page = to_html("<b>", blocks, tmp_path)
    assert page.count("<b>") == 0
    assert page.count("<tr>") == 1 + len(NAMES)


def test_columns_of_the_terminal_stay_aligned():
    lines = text_table([("task", "", "n"), *(("0", name, "1.5") for name in NAMES)], total=False)
    assert len(lines) == 2 + len(NAMES)
    assert "\x1b" not in "".join(lines)
    assert lines[2].index("1.5") == lines[3].index("1.5") == lines[5].index("1.5") + 3  # three signs are wide
