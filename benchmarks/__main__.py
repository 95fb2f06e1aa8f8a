"""Measure speed: ours beside Stable-Baselines3, Gymnasium and the machine's limits.

python -m benchmarks                     all ratios, five rounds, as Markdown tables
python -m benchmarks --only rival gemm   some ratios or groups of them
python -m benchmarks check               the quick ratios beside the recorded ones; exit code 1 if one got worse
python -m benchmarks docs FILE           tables and charts of a --json file into docs
python -m benchmarks pages [RUNS]        docs/methods: text and options from the code, curves from a folder of runs
python -m benchmarks gpu                 whether runs on a GPU are right, and how fast; about eight minutes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, history
from benchmarks.cases import CASES
from benchmarks.ratios import RATIOS, UsageError, select
from benchmarks.report import report
from benchmarks.results import Results


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    options = _parser().parse_args(args)
    if options.command == "case":
        harness.case_here(options.name, options.scale)
        return 0
    try:
        if options.command == "docs":
            return _docs(Path(options.file))
        if options.command == "pages":
            return _pages(options.runs)
        if options.command == "gpu":
            return _gpu(options)
        return _check(options) if options.command == "check" else _run(options)
    except UsageError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    ratios = select(options.only)
    if options.record and options.scale != 1:
        raise UsageError("--record: not allowed with --scale")
    results = harness.measure(ratios, options.rounds, options.scale)
    print(report(results))
    if options.json:
        results.write(Path(options.json))
    if options.record:
        history.append(Path(options.history), results)
    return _exit_code(results)


def _check(options: argparse.Namespace) -> int:
    before = history.recorded(Path(options.history))
    ratios = select(options.only) if options.only else [ratio for ratio in RATIOS if ratio.quick]
    ratios = [ratio for ratio in ratios if ratio.name in before]
    if not ratios:
        raise UsageError(f"{options.history} holds none of these ratios; python -m benchmarks --record adds them")
    # What compiling costs is not asked here, so the user's cache may serve.
    results = harness.measure(ratios, options.rounds, options.scale, cold=False)
    changes = history.compare(before, results.medians())
    print(history.comparison_table(changes, options.tolerance))
    if options.json:
        results.write(Path(options.json))
    worse = [change for change in changes if change.worse > options.tolerance]
    for change in worse:
        told = f"{change.name} got worse by {change.worse:.0%}: {change.now:.2f}, recorded {change.before:.2f}"
        print(told, file=sys.stderr)
    return 1 if worse else _exit_code(results)


def _docs(path: Path) -> int:
    from benchmarks.docs import write_docs

    write_docs(Results.read(path))
    return 0


def _pages(runs: Path | None) -> int:
    from benchmarks.pages import write_pages

    write_pages(runs)
    return 0


def _gpu(options: argparse.Namespace) -> int:
    import torch

    from benchmarks.gpu import page

    if options.accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError("gpu: torch finds no CUDA device here; --accelerator cpu --scale 0.01 tries the script")
    text, good = page(options.accelerator, options.scale, options.minutes)
    print(text)
    return 0 if good else 1


def _exit_code(results: Results) -> int:
    """A bar that is missed is told in the table; a case that should have run and did not is an error."""
    for name in results.failed():
        print(f"{name}: {results.cases[name].reason}", file=sys.stderr)
    return 1 if results.failed() else 0


def _parser() -> argparse.ArgumentParser:
    groups = ", ".join(dict.fromkeys(ratio.group for ratio in RATIOS))
    ratios = ", ".join(ratio.name for ratio in RATIOS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"groups: {groups}; ratios: {ratios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser, rounds=5)
    parser.add_argument("--record", action="store_true", help="add the ratios to the history")
    commands = parser.add_subparsers(dest="command", metavar="{check,docs,pages,gpu}")
    check = commands.add_parser("check", help="compare the quick ratios with the recorded ones")
    _add_common(check, rounds=3)
    check.add_argument(
        "--tolerance",
        type=float,
        default=history.TOLERANCE,
        help=f"share by which a ratio may get worse (default {history.TOLERANCE})",
    )
    docs = commands.add_parser("docs", help="write tables and charts into docs")
    docs.add_argument("file", help="what --json wrote")
    pages = commands.add_parser("pages", help="bring docs/methods up to date")
    pages.add_argument("runs", nargs="?", type=Path, help="folder of runs of every method, for curves and tables")
    gpu = commands.add_parser("gpu", help="runs on a GPU: right or not, and how fast")
    gpu.add_argument("--accelerator", choices=["gpu", "cpu"], default="gpu", help="cpu tries the script")
    gpu.add_argument("--minutes", type=float, default=8.0, help="after which no further row is begun (default 8)")
    gpu.add_argument("--scale", type=float, default=1.0, help="work of a speed row")
    case = commands.add_parser("case")  # what the harness starts
    case.add_argument("name", choices=list(CASES))
    case.add_argument("--scale", type=float, default=1.0)
    return parser


def _add_common(parser: argparse.ArgumentParser, rounds: int) -> None:
    parser.add_argument("--rounds", type=_positive, default=rounds, help=f"rounds over all cases (default {rounds})")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these ratios or groups of them")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--history", metavar="FILE", default=str(history.HISTORY), help="recorded ratios")
    parser.add_argument("--scale", type=float, default=1.0, help="work of a case; 0.05 tries the harness quickly")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; at least 1 is")
    return number


if __name__ == "__main__":
    sys.exit(main())
