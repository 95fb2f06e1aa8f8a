"""A document of headings, text, tables and figures, written as one HTML page, as Markdown and its tables as LaTeX."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from varshare_pl.results.figures import Figure
from varshare_pl.results.tables import Table
from varshare_pl.text import html, latex, markdown, plain


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Items:
    """Lines below each other."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Hidden:
    """Figures that are folded away until asked for."""

    title: str
    figures: Sequence[Figure]


Block = Heading | Items | Table | Figure | Hidden

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1.2em; color: #1a1a1a; }
h1 { font-size: 1.7em; } h2 { margin-top: 2em; border-bottom: 1px solid #ccc; } nav a { margin-right: 1.2em; }
table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25em .55em; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; } table.words td { text-align: left; white-space: normal; }
.wide { overflow-x: auto; } figure { margin: 1em 0; } img { max-width: 100%; height: auto; }
figcaption, .caption { color: #555; font-size: 13px; max-width: 60em; } summary { cursor: pointer; font-weight: 600; }
"""


def to_html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """One page that needs no other file: the images are inside. Links to SVGs or PDFs are relative to the folder."""
    headings = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    nav = "".join(f'<a href="#{_anchor(text)}">{html(text)}</a>' for text in headings)
    body = "\n".join(_html(block, folder, nav) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The same as Markdown; the images are those in the folder."""
    return "\n".join(_markdown(block, folder) for block in blocks)


def to_latex(tables: Sequence[Table]) -> str:
    """The tables for a paper; they need the package booktabs."""
    return "\n".join(_latex(table) for table in tables)


def _html(block: Block, folder: Path, nav: str) -> str:
    if isinstance(block, Heading):
        text = f'<h{block.level} id="{_anchor(block.text)}">{html(block.text)}</h{block.level}>'
        return f"{text}\n<nav>{nav}</nav>" if block.level == 1 else text
    if isinstance(block, Items):
        return "<ul>\n" + "".join(f"<li>{html(line)}</li>\n" for line in block.lines) + "</ul>"
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Hidden):
        inside = "\n".join(_html(figure, folder, nav) for figure in block.figures)
        return f"<details><summary>{html(block.title)}</summary>\n{inside}\n</details>"
    data = base64.b64encode(block.path.read_bytes()).decode()
    path = html(block.path.with_suffix(f".{block.kind}").relative_to(folder).as_posix())
    link = "" if block.kind == "png" else f' <a href="{path}">{block.kind.upper()}</a>'
    return (
        f'<figure><img alt="{html(block.title)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{html(block.caption)}{link}</figcaption></figure>"
    )


def _html_table(table: Table) -> str:
    words = ' class="words"' if not any(table.header) else ""
    head = "".join(f"<th>{html(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>\n" for row in table.rows)
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.header) else ""
    caption = f'<p class="caption">{html(table.caption)}</p>' if table.caption else ""
    return f'<div class="wide"><table{words}>\n{head}<tbody>\n{rows}</tbody></table></div>\n{caption}'


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {markdown(block.text)}\n"
    if isinstance(block, Items):
        return "".join(f"- {markdown(line)}\n" for line in block.lines)
    if isinstance(block, Table):
        align = ["---", *["---:" if any(block.header) else "---"] * (len(block.header) - 1)]
        lines = [map(markdown, block.header), align, *(map(markdown, row) for row in block.rows)]
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"{text}\n{markdown(block.caption)}\n" if block.caption else text
    if isinstance(block, Hidden):
        return "\n".join(_markdown(figure, folder) for figure in block.figures)
    path = block.path.relative_to(folder).as_posix()
    title = markdown(block.title).replace("[", r"\[").replace("]", r"\]")
    return f"![{title}]({path})\n\n{markdown(block.caption)}\n"


def _latex(table: Table) -> str:
    lines = [
        f"% {plain(table.title)}",
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{latex(table.title)}. {latex(table.caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, table.header)) + r" \\",
        r"\midrule",
        *(" & ".join(map(latex, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")
