"""The pages of the sharing methods, ``docs/methods``: what the code says of a method, and what runs of it gave.

The text is the docstring of the method's module, the options are those of its signature; remarks outside the markers
stay as they are written. A new method gets a new page.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docstring_parser import parse

from benchmarks import sections
from benchmarks.cases import METHODS
from benchmarks.machine import ROOT
from benchmarks.method_runs import SUITES, MethodRuns, draw, read_runs, results_table, suite_cell
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.size import network_sizes, total_size
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.sharing import SharingMethod, method_names

FOLDER = ROOT / "docs" / "methods"
METHOD, RESULTS = "method", "results"


def write_pages(runs_folder: Path | None, folder: Path = FOLDER) -> None:
    """Bring text and options up to date, and with a folder of runs curves and tables.

    Args:
        runs_folder: Runs at any depth, as ``varshare fit`` leaves them; None: leave curves and tables as they are.
        folder: Of the pages.

    Raises:
        UsageError: if a page lacks the markers, or there are no runs of a method.
    """
    runs = None if runs_folder is None else {method: read_runs(runs_folder, method) for method in METHODS}
    for method in METHODS:
        page = folder / f"{method}.md"
        if not page.exists():
            page.write_text(_new_page(method), encoding="utf-8")
        sections.write(page, METHOD, about(method))
        if runs is not None:
            draw(runs[method], folder / f"{method}.png")
            content = f"![Returns of {method} in training]({method}.png)\n\n{results_table(runs[method])}"
            sections.write(page, RESULTS, content)
    sections.write(folder / "index.md", "methods", index_table())
    if runs is not None:
        sections.write(folder / "index.md", RESULTS, index_results(runs))


def _new_page(method: str) -> str:
    empty = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n\n" for name in (METHOD, RESULTS))
    return f"# {method}\n\n{empty}".rstrip() + "\n"


def about(method: str) -> str:
    """What the code says: idea, formula, paper and deviations, how to use it, options."""
    cls = method_names()[method]
    text = _markdown(inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""))
    use = f"`--config methods/{method}`; the code is `{cls.__module__.replace('.', '/')}.py`."
    return "\n\n".join([text, use, options_table(cls)])


def options_table(cls: type[SharingMethod]) -> str:
    """Every argument of the method with its default and what it is; a sentence where there is none."""
    told: dict[str, str] = {}
    for one in reversed(cls.__mro__):  # arguments that are inherited are told where they are from
        told |= {param.arg_name: param.description or "" for param in parse(one.__doc__ or "").params}
    rows = [f"| `{name}` | `{parameter.default}` | {_cell(told[name])} |" for name, parameter in _options(cls)]
    if not rows:
        return "It has no options of its own."
    return "\n".join(["| `--model.sharing.…` | default | what it is |", "|---|---|---|", *rows])


def _options(cls: type[SharingMethod]) -> Iterator[tuple[str, inspect.Parameter]]:
    if cls.__init__ is not object.__init__:
        yield from list(inspect.signature(cls.__init__).parameters.items())[1:]


def _cell(text: str) -> str:
    """One line; what another method's page says is linked there."""
    line = " ".join(text.split()).replace("|", "\\|")
    return re.sub(rf"^See ({'|'.join(METHODS)})\.$", r"See [\1](\1.md).", line)


def _markdown(text: str) -> str:
    """A docstring as Markdown: a list needs an empty line before it."""
    return re.sub(r"(?<=\S)\n(?=1\. )", "\n\n", text)


def index_table() -> str:
    """The methods, each with one sentence, its options and its size."""
    spec = RolloutDataModule("ComplexCartPole", num_envs=5, rollout_steps=1, total_env_steps=5).spec
    lines = ["| method | what it is | options | stored | active | FLOPs |", "|---|---|---|---:|---:|---:|"]
    for method in METHODS:
        cls = method_names()[method]
        options = ", ".join(f"`{name}`" for name, _ in _options(cls)) or "–"
        sentence = parse(cls.__doc__ or "").short_description
        size = total_size(network_sizes(ActorCritic(spec, cls()), spec.obs_size).values())
        numbers = " | ".join(f"{number:,}" for number in size)
        lines.append(f"| [{method}]({method}.md) | {sentence} | {options} | {numbers} |")
    return "\n".join(lines)


def index_results(runs: dict[str, MethodRuns]) -> str:
    """Solved seeds and steps to solve of every method on every suite."""
    lines = [f"| method | {' | '.join(SUITES)} |", f"|---|{'---|' * len(SUITES)}"]
    for method, found in runs.items():
        cells = " | ".join(suite_cell(found.suites[suite]) for suite in SUITES)
        lines.append(f"| [{method}]({method}.md) | {cells} |")
    return "\n".join(lines)
