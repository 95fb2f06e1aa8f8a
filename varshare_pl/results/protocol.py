"""What the numbers of a report are of, and which runs are not among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from varshare_pl.results.anchors import anchors_text
from varshare_pl.results.study import Study, Suite
from varshare_pl.results.variant import STOP_RULE, SeedRun, Variant, shortened

EVERY = "evaluation.every"


def protocol(study: Study) -> list[tuple[str, str]]:
    """The stamp of a report: what, and how it was."""
    runs = [run for variant in study.variants for run in variant.runs]
    finals = [run for variant in study.variants for run in variant.finals]
    rows = [
        ("description", study.description),
        ("suites", "; ".join(_suite(suite.label, suite.started[0]) for suite in study.suites)),
        ("methods", ", ".join(map(study.shown, study.methods))),
        ("env steps", _of(finals, _final_steps) or _planned(study)),
        ("evaluation", _evaluation(runs, finals)),
        ("success", "; ".join(dict.fromkeys(suite.info.rule for suite in study.suites if suite.info.rule))),
        ("solved", "; ".join(filter(None, (_solved(study, measure) for measure in ("return", "success"))))),
        ("seeds", numbers(seed for variant in study.variants for seed in _seeds(variant))),
        ("runs", _counts(study)),
        ("score", _score(study)),
        ("tuning", _tuning(study.tuning) if study.kind == "study" else ""),
        ("commit", _of(runs, lambda run: run.info.commit) or "not known"),
        ("packages", _of(runs, lambda run: ", ".join(run.info.packages))),
        ("hardware", _of(runs, lambda run: run.info.hardware)),
    ]
    return [(what, how) for what, how in rows if how]


def gaps(study: Study) -> list[str]:
    """A line for whatever is missing or odd: failed, unfinished and missing runs, and budgets that differ."""
    lines = [line for variant in study.variants for line in _variant_gaps(variant)]
    lines += _not_started(study.variants)
    return [*study.notes, *lines, *(line for suite in study.suites for line in _suite_gaps(suite))]


def _not_started(variants: Sequence[Variant]) -> Iterator[str]:
    """Missing seeds, those that several variants lack in one line."""
    lacking: dict[str, list[str]] = {}
    for variant in variants:
        absent = missing_seeds(variant)
        if absent:
            lacking.setdefault(f"seed{'s' * (len(absent) > 1)} {numbers(absent)}", []).append(variant.name)
    for seeds, names in lacking.items():
        yield f"not started: {seeds} of {'all variants' if len(names) == len(variants) > 1 else shortened(names)}"


def _variant_gaps(variant: Variant) -> Iterator[str]:
    finished = {run.info.seed for run in variant.finals}
    for seed, message in sorted(variant.failures.items()):
        if seed not in finished:
            yield f"failed: {variant.name}, seed {seed}: {message}"
    behind = [run for run in variant.runs if variant.state(run) == "unfinished"]
    if behind:
        most = "" if variant.length is None else f" of {variant.length:,}"
        at = [f"{run.name} at {run.env_steps:,}{most} env steps" for run in behind]
        yield f"unfinished, not in the scores: {variant.name}: {shortened(at)}"
    shorter = [f"{run.name} at {run.env_steps:,}" for run in variant.runs if variant.ended_solved(run)]
    if shorter:
        carried = f"counted on with their last values to {variant.length:,} env steps"
        yield f"ended once solved, {carried}: {variant.name}: {shortened(shorter)}"
    bare = [run.name for run in variant.runs if not run.options]
    if len(bare) < len(variant.runs) and bare:
        yield f"no config.yaml, so its options were not compared: {variant.name}: {shortened(bare)}"
    cut = [
        f"{run.name} at {run.env_steps:,} of {run.final.env_steps:,}"
        for run in variant.runs
        if run.final is not None and run.env_steps < run.final.env_steps
    ]
    if cut:
        yield f"heartbeat.csv ends before the final evaluation: {variant.name}: {shortened(cut)}"
    farthest = max(map(variant.reach, variant.runs), default=0)
    left = [f"{run.name} at {run.env_steps:,}" for run in variant.runs if variant.reach(run) < farthest]
    if left:
        yield f"curves of {variant.name} are of fewer runs from where these end: {shortened(left)}"
    extended = [run.name for run in variant.finals if run.summary.get("extended")]
    if extended:
        yield f"extended after a shorter run: {variant.name}: {shortened(extended)}"


def _suite_gaps(suite: Suite) -> Iterator[str]:
    finals = [(variant, run) for variant in suite.started for run in variant.finals]
    for what, fact in FACTS.items():
        values: dict[str, dict[str, None]] = {}  # by method, in order
        for variant, run in finals:
            if value := fact(variant, run):
                values.setdefault(variant.method, {})[value] = None
        if len({value for own in values.values() for value in own}) > 1:
            told = ", ".join(f"{' | '.join(own)} ({method})" for method, own in values.items())
            yield f"{suite.label}: {what} not the same for all methods: {told}"
    if not suite.scored:
        yield f"{suite.label}: no anchors, so its returns are not turned into scores"


def missing_seeds(variant: Variant) -> list[int]:
    """Seeds of which there is neither a run nor a failure."""
    there = {run.info.seed for run in variant.runs} | set(variant.failures)
    return [seed for seed in variant.seeds if seed not in there]


def numbers(values: Iterable[int]) -> str:
    """Whole numbers in a line: ``1 to 10``, or ``1, 2, 5``."""
    found = sorted(set(values))
    if len(found) > 3 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))


def _seeds(variant: Variant) -> Sequence[int]:
    return variant.seeds or [run.info.seed for run in variant.runs if run.info.seed is not None]


def _of(runs: Sequence[SeedRun], fact: Callable[[SeedRun], str]) -> str:
    """A fact that should be the same in all runs; every value of it if it is not."""
    return " | ".join(dict.fromkeys(filter(None, map(fact, runs))))


def _final_steps(run: SeedRun) -> str:
    return "" if run.final is None else f"{run.final.env_steps:,}"


def _final_episodes(run: SeedRun) -> str:
    return "" if run.final is None else str(run.final.episodes)


def _steps(variant: Variant, run: SeedRun) -> str:
    """Env steps that a finished run counts for; one that ended solved does for all."""
    return f"{variant.length:,}" if variant.ended_solved(run) else _final_steps(run)


FACTS: dict[str, Callable[[Variant, SeedRun], str]] = {  # what has to be the same for a fair comparison
    "env steps are": _steps,
    "episodes of the final evaluation are": lambda _, run: _final_episodes(run),
    f"{EVERY} is": lambda _, run: run.options.get(EVERY, ""),
    f"{STOP_RULE} is": lambda _, run: run.options.get(STOP_RULE, ""),
}


def _suite(label: str, variant: Variant) -> str:
    info = variant.info
    name = (info.suite or label) + ("" if info.suite_version is None else f" v{info.suite_version}")
    tasks = len(variant.names)
    told = f" ({info.suite_protocol})" if info.suite_protocol else ""
    return (name if name.startswith(label) else f"{label}: {name}") + f", {tasks} task{'s' * (tasks != 1)}{told}"


def _planned(study: Study) -> str:
    lengths = dict.fromkeys(v.length for suite in study.suites for v in suite.started if v.length is not None)
    return "to be " + " | ".join(f"{length:,}" for length in lengths) if lengths else ""


def _evaluation(runs: Sequence[SeedRun], finals: Sequence[SeedRun]) -> str:
    episodes = _of(finals, _final_episodes)
    every = _of(runs, lambda run: run.options.get(EVERY, ""))
    parts = ["deterministic (posterior mean, most likely action), final weights"]
    parts += [f"{episodes} episodes a task"] if episodes else []
    if every.isdigit() and every != "0":
        every = f"{int(every):,}"
    parts += [f"during training every {every} env steps"] if every not in ("", "0") else []
    return "; ".join(parts)


def _counts(study: Study) -> str:
    variants = study.variants
    runs = [(variant, run) for variant in variants for run in variant.runs]
    planned = sum(variant.planned for variant in variants)
    finished = sum(variant.state(run) == "finished" for variant, run in runs)
    failed = sum(
        seed not in {run.info.seed for run in variant.finals} for variant in variants for seed in variant.failures
    )
    unfinished = sum(variant.state(run) == "unfinished" for variant, run in runs)
    missing = sum(len(missing_seeds(variant)) for variant in variants)
    return f"{planned}: {finished} finished, {failed} failed, {unfinished} unfinished, {missing} not started"


def _score(study: Study) -> str:
    anchored = [suite for suite in study.suites if suite.anchors is not None]
    plain = [suite for suite in study.suites if suite.scored and suite.anchors is None]
    parts = [f"{', '.join(suite.label for suite in plain)}: {plain[0].score_words}"] if plain else []
    if not anchored:
        return "; ".join(parts)
    return "; ".join([*parts, _anchored(anchored)])


def _solved(study: Study, measure: str) -> str:
    known = {suite.info.solved for suite in study.suites if suite.info.solved is not None and suite.measure == measure}
    return f"every task's mean {measure} ≥ {' or '.join(f'{number:g}' for number in sorted(known))}" if known else ""


def _anchored(anchored: Sequence[Suite]) -> str:
    measures = " or ".join(dict.fromkeys(suite.measure for suite in anchored))
    return f"({measures} − low) / (high − low) of each task: " + "; ".join(
        f"{suite.label} {anchors_text(suite.anchors)}" for suite in anchored
    )


def _tuning(tuning: dict[str, Any] | None) -> str:
    if not tuning:
        return "none; every method as its config has it"
    parts = [f"{tuning.get('trials', '?')} trials for each method"]
    if tuning.get("env_steps"):
        parts.append(f"of {int(tuning['env_steps']):,} env steps")
    if tuning.get("seeds"):
        parts.append(f"on seeds {numbers(map(int, tuning['seeds']))}")
    line = " ".join(parts)
    extras = [f"{name} {tuning[name]}" for name in ("sampler", "pruner") if tuning.get(name)]
    parameters = ", ".join(map(str, tuning.get("parameters") or ()))
    return "; ".join(filter(None, [line, *extras, parameters]))
