"""``varshare study``: plan, check, run, and say what came of it. Light: torch is loaded in processes of its own."""

from __future__ import annotations

import argparse
import os
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.cli.configs import resolve_config, resolve_study
from varshare_pl.errors import ConfigError, RunError
from varshare_pl.run_folder import TRIAL
from varshare_pl.study.definition import Study, read_study
from varshare_pl.study.executors import EXECUTORS, Needs
from varshare_pl.study.folder import StudyFolder
from varshare_pl.study.local import ForkServer
from varshare_pl.study.runs import Run, State, make_run
from varshare_pl.study.scheduler import Scheduler, StopSignals
from varshare_pl.study.search import LENGTH
from varshare_pl.study.tuning import TUNED, Searches
from varshare_pl.study.values import integer
from varshare_pl.study.view import make_view

DESCRIPTION = """Run all runs of a study: each method on each suite for each seed, as its YAML file says. The same
command goes on with a study that was stopped: finished runs are skipped, interrupted ones resumed exactly, failed ones
shown."""
PRELOAD = "varshare_pl.cli.preload"
Main = Callable[[list[str]], int]


def study_command(argv: list[str], main: Main) -> int:
    """Run ``varshare study`` with these arguments; gives the exit code.

    Args:
        argv: The arguments.
        main: Runs a command line of ``varshare``, in the process of each run, and gives its exit code.
    """
    options = _options(argv)
    _leave_sweep()
    path = resolve_study(options.study)
    study = read_study(path, resolve_config, options.tune)
    if options.tune and study.tuning is None:
        raise ConfigError(f"tune: missing in {path}; --tune needs parameters, trials, env_steps and seeds")
    folder = StudyFolder(options.logs_dir / study.name)
    folder.check(study)
    if not options.dry_run:
        folder.check_unused()
    server = ForkServer(PRELOAD)
    of_variants = check_variants(study, options.logs_dir, server, options.tune)
    lengths = {name: int(of_variant[LENGTH]) for name, of_variant in of_variants.items()}
    if options.tune:
        searches = Searches(study, folder, options.logs_dir, of_variants, TUNED / study.name)
        searches.check()
        if options.dry_run:
            print(searches.plan())
            return 0
        searches.open_storage()
        counts, signal = _run(study, searches.runs, lengths, folder, options, server, main)
        if not signal:
            print(searches.result())
        return _end(counts, signal)
    runs = plan(study, options.logs_dir, lengths)
    if options.dry_run:
        print(plan_text(study, runs, folder))
        return 0
    counts, signal = _run(study, lambda: runs, lengths, folder, options, server, main)
    for run in runs:
        if failure := folder.failure(run):
            print(f"failed: {run.name}: {failure['message']} ({folder.path / failure['log']})")
    if counts.get(State.FINISHED):
        print(f"report: varshare report {folder.path}")
    return _end(counts, signal)


def _leave_sweep() -> None:
    """A study's runs are its own, not trials of a sweep whose agent has started it."""
    for name in TRIAL:
        os.environ.pop(name, None)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = CommandParser("study", DESCRIPTION)
    parser.add_argument("study", metavar="STUDY", help="a study's YAML file, or the name of a shipped one, as sharing")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan with the command of each run; run nothing"
    )
    parser.add_argument("--workers", metavar="N", help="runs at once; default: one per core, on clusters all")
    parser.add_argument(
        "--executor", metavar="NAME", help="local: processes here (default); slurm: jobs; ray: tasks of a Ray cluster"
    )
    parser.add_argument("--retry-failed", action="store_true", help="go on with failed runs too")
    parser.add_argument("--tune", action="store_true", help="search the parameters under tune, for each variant")
    parser.add_argument(
        "--logs_dir", metavar="DIR", type=path_argument, default=Path("logs"), help="where runs go; default: logs"
    )
    options: argparse.Namespace = parser.parse_args(argv)
    if options.workers is not None:
        number = int(options.workers) if options.workers.isdecimal() else options.workers
        options.workers = integer(number, "--workers")
    if options.executor not in (None, *EXECUTORS):
        raise ConfigError(f"--executor: {options.executor} is not allowed; {' or '.join(EXECUTORS)} is")
    return options


def plan(study: Study, logs_dir: Path, lengths: Mapping[str, int]) -> list[Run]:
    """All runs of a study; one seed of all variants before the next, so that early results compare all."""
    return [
        make_run(study.name, (variant.name,), variant.args, seed, logs_dir, lengths[variant.name])
        for seed in study.seeds
        for variant in study.variants
    ]


def plan_text(study: Study, runs: Sequence[Run], folder: StudyFolder) -> str:
    """The plan: each run with its state and command, and how much there is to do."""
    lines = [f"{study.name}: {len(study.variants)} variants × {len(study.seeds)} seeds in {folder.path}"]
    states = {run.name: folder.state(run) for run in runs}
    lines += [f"{states[run.name]:<11}  varshare {shlex.join(run.args)}" for run in runs]
    left = sum(run.env_steps for run in runs if states[run.name] is not State.FINISHED)
    lines.append(f"{len(runs)} runs, {sum(run.env_steps for run in runs):,} env steps, {left:,} of them left")
    return "\n".join(lines)


def check_variants(study: Study, logs_dir: Path, server: ForkServer, tune: bool) -> dict[str, dict[str, Any]]:
    """Check all variants as ``varshare fit`` would, in a process that has torch; gives all options of each by name.

    Raises:
        ConfigError: for the first mistake, naming the variant.
    """
    questions = []
    for variant in study.variants:
        folders = [] if tune else [logs_dir / study.name / variant.name / f"seed_{seed}" for seed in study.seeds]
        more = [[]] if not tune or study.tuning is None else [study.tuning.length(), *study.tuning.corners()]
        questions += [(variant.name, ["fit", *variant.args, *options], folders) for options in more]
    receive, send = server.pipe()
    process = server.start(_check, send, questions)
    send.close()
    try:
        answers: dict[str, dict[str, Any]] | str = receive.recv()
    except EOFError:
        process.join()
        raise RunError(f"the variants could not be checked: exit code {process.exitcode}") from None
    process.join()
    if isinstance(answers, str):
        raise ConfigError(answers)
    return answers


def _check(send: Any, questions: list[tuple[str, list[str], list[Path]]]) -> None:
    """What the checking process does."""
    from varshare_pl.cli.variants import check_variant

    answers: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each run tells its own
        for name, args, folders in questions:
            try:
                answers.setdefault(name, check_variant(args, folders))
            except ConfigError as error:
                _send(send, f"{name}: {error}")
                return
    _send(send, answers)


def _send(send: Any, answer: dict[str, dict[str, Any]] | str) -> None:
    with suppress(BrokenPipeError):  # Ctrl-C ended the study in the meantime
        send.send(answer)


def _run(
    study: Study,
    runs: Callable[[], Sequence[Run]],
    lengths: Mapping[str, int],
    folder: StudyFolder,
    options: argparse.Namespace,
    server: ForkServer,
    main: Main,
) -> tuple[dict[State, int], int]:
    """Bring runs to their ends; gives how many are in which state, and the signal that stopped them, or 0."""
    needs = Needs(server, main, folder.path, folder.log, options.workers or study.workers, study.slurm, study.ray)
    with closing(EXECUTORS[options.executor or study.executor](needs)) as executor:
        held = folder.lock()
        try:
            folder.describe(study, lengths)
            if options.retry_failed:
                folder.forget_failures(runs())
            with StopSignals() as stop:
                counts = Scheduler(runs, folder, executor, make_view(), stop).run()
            return counts, stop.received[0] if stop.received else 0
        finally:
            held.release()


def _end(counts: Mapping[State, int], signal: int) -> int:
    """The last line and the exit code."""
    print("; ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if signal:
        print("stopped; the same command goes on")
        return 128 + signal
    unfinished = sum(count for state, count in counts.items() if state is not State.FINISHED)
    if counts.get(State.FAILED):
        print("failed runs are not started again, unless --retry-failed asks for it")
    return int(unfinished > 0)
