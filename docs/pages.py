"""What the site is made of beside the pages in this folder: options, columns, files from elsewhere, navigation."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))  # the package beside this folder is the one that is documented

COLUMNS_HERE = "<!-- columns of heartbeat.csv -->"
SECTIONS = {
    "": "Run",
    "data": "`data`: envs and rollouts",
    "model": "`model`: networks, sharing and PPO",
    "evaluation": "`evaluation`",
    "plots": "`plots`",
    "progress": "`progress`",
    "checkpoint": "`checkpoint`",
    "artifacts": "`artifacts`: sent to W&B",
    "trainer": "`trainer`: Lightning's Trainer",
}


def made_pages() -> dict[str, str]:
    """The pages that are no file of this folder, by their names: from the code, and from files elsewhere."""
    return {
        "options.md": options_page(),
        "run-folder.md": "# A run's folder\n" + _after_title("logs/README.md").replace("../docs/", ""),
        "changelog.md": "# Changes\n" + _after_title("CHANGELOG.md"),
    }


def filled(name: str, text: str) -> str:
    """A page with the table of columns in its place, and the files that are not part of the site named, not linked."""

    def named(link: re.Match[str]) -> str:
        target = (DOCS / name).parent.joinpath(link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.is_relative_to(ROOT) or not target.exists():
            return link[0]
        path = f"`{target.relative_to(ROOT)}`"
        return path if link[1].strip("`") in path else f"{link[1]} ({path})"

    text = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)", named, text)
    return text.replace(COLUMNS_HERE, columns_table()) if COLUMNS_HERE in text else text


def navigation(entries: Sequence[Any]) -> list[Any]:
    """The navigation with the pages that its patterns match, each page once; a pattern without pages leaves it."""
    named = set(re.findall(r"[\w/.-]+\.md", str(entries)))
    return [entry for entry in (_expanded(entry, named) for entry in entries) if entry]


def _after_title(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8").partition("\n")[2]


def _expanded(entry: Any, named: set[str]) -> Any:
    if isinstance(entry, dict):
        ((title, below),) = entry.items()
        found = [_expanded(one, named) for one in (below if isinstance(below, list) else [below])]
        flat = [page for one in found for page in (one if isinstance(one, list) else [one])]
        return {title: flat} if flat else None
    if "*" not in entry:
        return entry
    matches = {path.relative_to(DOCS).as_posix() for path in DOCS.glob(entry)}
    return sorted(matches - named, key=_index_first)


def _index_first(name: str) -> tuple[bool, str]:
    return not name.endswith("index.md"), name


def columns_table() -> str:
    """The columns of ``heartbeat.csv`` with what they are, as Markdown."""
    from varshare_pl.results.columns import COLUMNS

    only = {"": "", "success": "only where a suite's measure is not the return; ", "cosine": "with cosine_every; "}
    rows = [(f"`{column.name}`", column.meaning, only[column.only] + column.empty) for column in COLUMNS]
    return "\n".join(["| column | what it is | empty |", "|---|---|---|", *map(_cells, rows)])


def options_page() -> str:
    """All options of ``varshare fit`` with their defaults, and the help of the other commands, as Markdown."""
    from varshare_pl.cli.configs import shipped_configs
    from varshare_pl.cli.help import DESCRIPTION

    lines = ["# Options", "", DESCRIPTION["fit"], ""]
    lines += ["```sh", "varshare fit --config NAME_OR_FILE --config ANOTHER --model.kl_weight 0.1", "```", ""]
    lines += ["`varshare fit --print_config` prints them all as a config. Shipped configs, by name: "]
    lines += [", ".join(f"`{name}`" for name in shipped_configs()) + ".", ""]
    options = fit_options()
    for section, title in SECTIONS.items():
        lines += [f"## {title}", "", "| option | default | allowed | what it does |", "|---|---|---|---|"]
        lines += [_row(*option) for option in options if option[0].rpartition(".")[0].partition(".")[0] == section]
        lines.append("")
    own = "[options of its own](methods/index.md)" if (DOCS / "methods/index.md").exists() else "options of its own"
    lines += [f"Each sharing method has {own}: `--model.sharing.NAME VALUE`.", ""]
    lines += ["## Other commands", ""]
    for command, text in command_help().items():
        lines += [f"### varshare {command}", "", "```text", text.strip(), "```", ""]
    return "\n".join(lines)


def fit_options() -> list[tuple[str, str, str, str]]:
    """Key, default, allowed values and explanation of every option of ``varshare fit``, in plain words."""
    from varshare_pl.cli.completion import option_parser
    from varshare_pl.cli.help import HelpFormatter

    parser, formatter, rows = option_parser("fit"), HelpFormatter(prog=""), []
    known = parser.keys()
    for action in parser._actions:
        if action.dest in known and action.help is not SUPPRESS and action.dest != "print_config":
            default = parser.get_defaults().get(action.dest)
            rows.append((action.dest, _yaml(default), _allowed(action, formatter), _plain(action.help or "")))
    return rows


def _allowed(action: Action, formatter: Any) -> str:
    words = formatter._get_type_str(action) if getattr(action, "_typehint", None) or action.type else None
    return "" if words is None else words


def _yaml(value: Any) -> str:
    import yaml

    if isinstance(value, dict) or hasattr(value, "class_path"):
        return str(value["class_path"]).rpartition(".")[2]
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("...").strip()


def _plain(text: str) -> str:
    text = re.sub(r"\s*Default: .*$", "", " ".join(text.replace("``", "`").split()))  # Lightning's, not ours
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text)


def _row(key: str, default: str, allowed: str, text: str) -> str:
    return _cells([f"`{key}`", f"`{default}`" if default else "", allowed, text])


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def command_help() -> dict[str, str]:
    """What ``varshare COMMAND --help`` prints, for the commands that have few options."""
    from varshare_pl.cli import main

    listed = re.findall(
        r"^  ([a-z-]+)  +\w", main.HELP.partition("commands:")[2].partition("options:")[0], re.MULTILINE
    )
    texts = {}
    for command in [name for name in listed if name not in ("fit", "validate", "describe")]:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            main.main([command, "--help"])
        texts[command] = text.getvalue()
    return texts
