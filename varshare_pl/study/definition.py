"""What a study is: its file, read and checked without loading anything heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.results.info import read_json
from varshare_pl.study import values
from varshare_pl.study.executors import EXECUTORS
from varshare_pl.study.resources import Ray, Slurm, read_ray, read_slurm
from varshare_pl.study.search import BUDGET_FILE, Tuning, read_tuning
from varshare_pl.study.shown import Shown, expected_energies, read_shown
from varshare_pl.study.values import (
    arguments,
    check_keys,
    integer,
    label,
    mapping,
    one_of,
    option_text,
    refuse,
    texts,
)

KEYS = (
    *("name", "description", "configs", "suites", "methods", "grid", "seeds", "overrides", "reference", "tuned"),
    *("expected_head_energy", "report", "workers", "executor", "slurm", "ray", "tune"),
)
OWN_OPTIONS = {  # options of `varshare fit` that a study decides about
    "config": "configs lists config files",
    "seed_everything": "seeds says which",
    "experiment": "name and the labels of suites and methods say where runs go",
    "logs_dir": "'varshare study --logs_dir' says where runs go",
    "overwrite": "a study never replaces a run",
    "ckpt_path": "a study goes on with its runs by itself",
    "print_config": "'varshare study --dry-run' shows the plan",
}
RESERVED = ("failures", "output", "slurm", "tuning", "report")  # folders beside those of the variants


@dataclass(frozen=True)
class Variant:
    """A method on a suite: what its runs over the seeds have in common.

    Attributes:
        name: Its folder, ``<suite>_<method>``.
        suite: Label of the suite.
        method: Label of the method.
        args: Options of ``varshare fit``.
    """

    name: str
    suite: str
    method: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study as its file gives it; variants and seeds in the order of the file."""

    name: str
    description: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    reference: str | None
    executor: str
    workers: int | None
    slurm: Slurm
    ray: Ray
    tuning: Tuning | None
    budget: dict[str, Any] | None  # of the tuning that its configs come from
    expected_head_energy: Mapping[str, float]  # sharing energy that is right for the actor's head, by suite
    shown: Shown  # how the report shows the methods

    @property
    def suites(self) -> list[str]:
        """Labels of the suites."""
        return list(dict.fromkeys(variant.suite for variant in self.variants))

    @property
    def methods(self) -> list[str]:
        """Labels of the methods."""
        return list(dict.fromkeys(variant.method for variant in self.variants))


@dataclass(frozen=True)
class _Entry:
    """One value of an axis: config files and options."""

    configs: tuple[str, ...]
    options: dict[str, Any]


def read_study(path: Path, resolve: Callable[[str], str], for_tuning: bool = False) -> Study:
    """Read a study's file.

    Args:
        path: The file.
        resolve: Gives the file of a config's name, or raises ``ConfigError``.
        for_tuning: Leave out the tuned values, which are not there yet.

    Raises:
        ConfigError: for whatever is wrong in it, in one line.
    """
    content = values.read_study_file(path)
    check_keys(content, KEYS)
    resolve = _beside(path, resolve)
    name = label(content.get("name", path.stem), "name")
    base = _configs(content.get("configs"), "configs", resolve)
    overrides = _options(mapping(content.get("overrides"), "overrides"), "overrides")
    suites = _axis(content, "suites", resolve)
    methods = _with_grid(_axis(content, "methods", resolve), mapping(content.get("grid"), "grid"))
    tuned = None if for_tuning else content.get("tuned")
    tuned = None if tuned is None else _tuned_folder(values.text(tuned, "tuned"), path)

    variants = []
    for (suite, of_suite), (method, of_method) in product(suites.items(), methods.items()):
        variant = f"{suite}_{method}"
        files = [*base, *of_suite.configs, *of_method.configs]
        args = [part for file in files for part in ("--config", file)]
        args += arguments({**overrides, **of_suite.options, **of_method.options})
        if tuned is not None:
            args += ["--config", _tuned_file(tuned, variant)]
        variants.append(Variant(variant, suite, method, tuple(args)))
    _check_names(variants)

    reference = content.get("reference")
    if reference == "null" and reference not in methods:
        reference = None
    if reference is not None and reference not in methods:
        raise refuse("reference", reference, f"one of the methods is: {', '.join(methods)}")
    workers = content.get("workers")
    seeds = values.seeds(content.get("seeds", 1), "seeds")
    set_by_file = {**overrides, **{key: value for entry in methods.values() for key, value in entry.options.items()}}
    return Study(
        name,
        values.text(content.get("description", ""), "description"),
        tuple(variants),
        seeds,
        reference,
        one_of(content.get("executor", "local"), "executor", EXECUTORS),
        None if workers is None else integer(workers, "workers"),
        read_slurm(content.get("slurm")),
        read_ray(content.get("ray")),
        read_tuning(content["tune"], seeds, set_by_file) if "tune" in content else None,
        None if tuned is None else _budget(tuned, seeds),
        expected_energies(mapping(content.get("expected_head_energy"), "expected_head_energy"), suites),
        read_shown(mapping(content.get("report"), "report"), methods),
    )


def _axis(content: dict[str, Any], axis: str, resolve: Callable[[str], str]) -> dict[str, _Entry]:
    """The values of an axis by label: a list of configs, or labels with configs, or labels with configs and options."""
    given = content.get(axis)
    if isinstance(given, list):
        names = texts(given, axis)
        labels = [Path(name).stem for name in names]
        twice = [name for name in labels if labels.count(name) > 1]
        if twice:
            raise ConfigError(f"{axis}: two of them are called {twice[0]}; give them labels, as in LABEL: CONFIG")
        given = dict(zip(labels, names, strict=True))
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{axis}: missing; a list of configs, or labels with configs, is needed")
    entries = {}
    for name, value in mapping(given, axis).items():
        key = f"{axis}.{label(name, axis)}"
        parts = dict(value) if isinstance(value, dict) else {"configs": value}
        configs = _configs(parts.pop("configs", None), key, resolve)
        options = _options({str(option): item for option, item in parts.items()}, key)
        entries[name] = _Entry(configs, options)
    return entries


def _with_grid(methods: dict[str, _Entry], grid: dict[str, Any]) -> dict[str, _Entry]:
    """Each method with each combination of the grid's values; ``varshare`` becomes ``varshare_rollout_0.1``."""
    _options(grid, "grid")
    for key, listed in grid.items():
        if not isinstance(listed, list) or not listed:
            raise refuse(f"grid.{key}", listed, "a list of values is")
        clash = [name for name, entry in methods.items() if key in entry.options]
        if clash:
            raise ConfigError(f"grid.{key}: methods.{clash[0]} sets it too; one place is allowed")
    result: dict[str, _Entry] = {}
    for name, entry in methods.items():
        for chosen in product(*grid.values()):
            full = label("_".join([name, *map(option_text, chosen)]), "grid")
            if full in result:
                raise ConfigError(f"grid: {full} comes out twice; each value once is allowed")
            result[full] = _Entry(entry.configs, {**entry.options, **dict(zip(grid, chosen, strict=True))})
    return result


def _beside(study: Path, resolve: Callable[[str], str]) -> Callable[[str], str]:
    """The names of configs as ``--config`` takes them: a file seen from the study's, else what ``resolve`` knows."""

    def found(name: str) -> str:
        beside = study.parent / name
        if beside.is_file():
            return str(beside)
        resolve(name)
        return name

    return found


def _configs(value: Any, key: str, resolve: Callable[[str], str]) -> tuple[str, ...]:
    try:
        return tuple(resolve(name) for name in texts(value, key))
    except ConfigError as error:
        raise ConfigError(f"{key}: {str(error).removeprefix('--config: ')}") from None


def _options(options: dict[str, Any], key: str) -> dict[str, Any]:
    """Options of ``varshare fit``, as "model.kl_weight"; the parser judges them later."""
    for option in options:
        if option in OWN_OPTIONS:
            raise ConfigError(f"{key}.{option}: not allowed; {OWN_OPTIONS[option]}")
    return options


def _tuned_folder(given: str, study: Path) -> Path:
    """The folder as it is given, else seen from one that the study's file is in: shipped studies are used anywhere."""
    places = [user_path(given), *(parent / given for parent in study.resolve().parents)]
    return next((place for place in places if place.is_dir()), places[0])


def _tuned_file(folder: Path, variant: str) -> str:
    file = folder / f"{variant}.yaml"
    if not file.is_file():
        raise ConfigError(f"tuned: {file} is missing; 'varshare study --tune' makes it")
    return str(file)


def _budget(tuned: Path, seeds: Sequence[int]) -> dict[str, Any] | None:
    """The budget that tuned configs were found with; None where nothing is written of it."""
    budget = read_json(tuned / BUDGET_FILE)
    shared = [seed for seed in budget.get("seeds", []) if seed in seeds]
    if shared:
        raise ConfigError(f"seeds: {tuned} was tuned on seed {shared[0]}; only seeds that it does not use are allowed")
    return budget or None


def _check_names(variants: list[Variant]) -> None:
    seen: dict[str, Variant] = {}
    for variant in variants:
        other = seen.setdefault(variant.name, variant)
        if other is not variant:
            raise ConfigError(
                f"methods: {variant.method} on {variant.suite} and {other.method} on {other.suite} would both be "
                f"called {variant.name}; change a label"
            )
        if variant.name in RESERVED:
            raise ConfigError(f"methods: {variant.name} is the name of a folder of the study; change a label")
