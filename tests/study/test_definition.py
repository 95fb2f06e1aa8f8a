"""The file of a study: what it may say, and one clear line for what it may not, before anything is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import small
import yaml

from varshare_pl.cli.configs import resolve_config, shipped_studies
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError
from varshare_pl.study.definition import read_study
from varshare_pl.study.folder import StudyFolder
from varshare_pl.study.shown import Shown
from varshare_pl.study.values import seeds
from varshare_pl.yaml_files import load, same


def read(folder: Path, **content: Any) -> Any:
    file = folder / "file.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(file, resolve_config)


def test_variants_are_suites_times_methods_times_the_grid(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        suites=["complex_cartpole", "mirrored_cartpole"],
        methods={
            "ours": {"configs": ["methods/varshare"], "model.kl_weight": 0.2},
            "shared": "methods/shared",
        },
        grid={"model.lr_actor": [1e-3, 5e-3], "model.anneal_lr": [True, False]},
        overrides={"data.total_env_steps": 1000, "model.kl_weight": 0.3, "model.hidden_sizes": [8, 8]},
        seeds=[3, "5-6"],
    )
    assert study.name == "file"
    assert study.seeds == (3, 5, 6)
    assert study.suites == ["complex_cartpole", "mirrored_cartpole"]
    grid = [f"{rate}_{anneal}" for rate in ("0.001", "0.005") for anneal in ("true", "false")]
    assert study.methods == [f"{method}_{point}" for method in ("ours", "shared") for point in grid]
    assert [v.name for v in study.variants] == [f"{s}_{m}" for s in study.suites for m in study.methods]
    first = study.variants[0]
    assert first.args == (
        *("--config", "complex_cartpole", "--config", "methods/varshare", "--data.total_env_steps", "1000"),
        *("--model.kl_weight", "0.2", "--model.hidden_sizes", "[8, 8]"),  # a method's own value beats the overrides
        *("--model.lr_actor", "0.001", "--model.anneal_lr", "true"),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, (1,)),
        (0, (0,)),
        ([7], (7,)),
        ("1-3", (1, 2, 3)),
        ("1-2, 5", (1, 2, 5)),
        ([1, "4-5", 9], (1, 4, 5, 9)),
        ([0], (0,)),
    ],
)
def test_seeds(value: Any, expected: tuple[int, ...]) -> None:
    assert seeds(value, "seeds") == expected


@pytest.mark.parametrize(
    "value", ["", [], "1-", "3-1", -1, 1.5, True, None, "one", [2**32], [[1]], "1:10", "010", ["08"]]
)
def test_seeds_that_are_none(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^seeds: .*(is|are|needed)$"):
        seeds(value, "seeds")


TUNE = {"parameters": {"model.lr_actor": {"low": 1e-3, "high": 1e-2}}, "trials": 2, "env_steps": 320, "seeds": [9]}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"methodes": []}, "methodes: unknown key; did you mean methods?"),
    "unknown method": (
        {"methods": ["methods/varshar"]},
        "methods.varshar: methods/varshar is neither a file nor a shipped config; did you mean methods/varshare?",
    ),
    "no suites": ({"suites": None}, "suites: missing; a list of configs, or labels with configs, is needed"),
    "seed twice": ({"seeds": "1-3,2"}, "seeds: seed 2 is given twice; each seed once is allowed"),
    "clash": (
        {
            "suites": {"a": "cartpole", "a_b": "cartpole"},
            "methods": {"b_c": "methods/shared", "c": "methods/varshare"},
        },
        "methods: c on a_b and b_c on a would both be called a_b_c; change a label",
    ),
    "label twice": (
        {"methods": ["methods/shared", "configs/methods/shared.yaml"]},
        "methods: two of them are called shared; give them labels, as in LABEL: CONFIG",
    ),
    "label": (
        {"methods": {"a/b": "methods/shared"}},
        "methods: a/b is not allowed; letters, digits and . _ + - are",
    ),
    "own option": (
        {"overrides": {"seed_everything": 3}},
        "overrides.seed_everything: not allowed; seeds says which",
    ),
    "reference": ({"reference": "none"}, "reference: none is not allowed; one of the methods is: varshare, shared"),
    "expected energy": (
        {"expected_head_energy": {"complex": 1.5}},
        "expected_head_energy.complex: 1.5 is not allowed; a number from 0 to 1 is",
    ),
    "expected energy of another suite": (
        {"expected_head_energy": {"dial": 0.5}},
        "expected_head_energy.dial: unknown suite; complex, mirrored are allowed",
    ),
    "order of other methods": (
        {"report": {"order": ["paco"]}},
        "report.order: paco is not allowed; methods are: varshare, shared",
    ),
    "method twice in the order": (
        {"report": {"order": ["shared", "shared"]}},
        "report.order: shared is given twice; each method once is allowed",
    ),
    "name of two methods": (
        {"report": {"names": {"varshare": "shared"}}},
        "report.names: shared is the name of two methods; one is allowed",
    ),
    "colour": (
        {"report": {"colors": {"shared": "blau"}}},
        'report.colors.shared: blau is not allowed; a colour of matplotlib, such as "#0072B2" or "tab:red", is',
    ),
    "key of the report": ({"report": {"colours": {}}}, "report.colours: unknown key; did you mean report.colors?"),
    "workers": ({"workers": 0}, "workers: 0 is not allowed; an integer of at least 1 is"),
    "executor": ({"executor": "cloud"}, "executor: cloud is not allowed; local or slurm or ray is"),
    "slurm": ({"slurm": {"xyz": 3}}, "slurm.xyz: unknown key; partition, hours, memory_gb, cpus, gpus,"),
    "ray": ({"ray": {"adress": "auto"}}, "ray.adress: unknown key; did you mean ray.address?"),
    "ray key": ({"ray": {"hours": 3}}, "ray.hours: unknown key; address, cpus, gpus are allowed"),
    "ray list": ({"ray": ["auto"]}, "ray: [auto] is not allowed; keys with values are"),
    "address": (
        {"ray": {"address": 6379}},
        "ray.address: 6379 is not allowed; HOST:PORT of a cluster's head, or auto, is",
    ),
    "cpus": ({"ray": {"cpus": 0}}, "ray.cpus: 0 is not allowed; an integer of at least 1 is"),
    "gpus": ({"ray": {"gpus": 0.5}}, "ray.gpus: 0.5 is not allowed; an integer of at least 0 is"),
    "hours": ({"slurm": {"hours": -1}}, "slurm.hours: -1 is not allowed; a positive number is"),
    "grid and method": (
        {"methods": {"a": {"configs": [], "model.kl_weight": 1}}, "grid": {"model.kl_weight": [1, 2]}},
        "grid.model.kl_weight: methods.a sets it too; one place is allowed",
    ),
    "tuning seeds": (
        {"tune": {**TUNE, "seeds": [2, 9]}},
        "tune.seeds: 2 is a seed of the study; only seeds that it does not use are allowed",
    ),
    "tuning range": (
        {"tune": {**TUNE, "parameters": {"model.lr_actor": {"low": 1, "high": 1}}}},
        "tune.parameters.model.lr_actor.high: 1 is not allowed; a number above low, 1, is",
    ),
    "tuning sampler": (
        {"tune": {**TUNE, "sampler": "best"}},
        "tune.sampler: best is not allowed; tpe or random is",
    ),
    "tuned and set": (
        {"tune": TUNE, "overrides": {"model.lr_actor": 1}},
        "tune.parameters.model.lr_actor: the study sets it already; one place is allowed",
    ),
    "tuned is missing": (
        {"tuned": "nowhere"},
        "tuned: nowhere/complex_varshare.yaml is missing; 'varshare study --tune' makes it",
    ),
    # What only the parser of `varshare fit` knows:
    "range of numbers for an integer": (
        {"tune": {**TUNE, "parameters": {"model.update_epochs": {"low": 1.0, "high": 10.0}}}},
        "complex_varshare: model.update_epochs: 3.86",
    ),
    "option": (
        {"overrides": {"model.kl_wait": 3}},
        "complex_varshare: --model.kl_wait: unknown option; did you mean --model.kl_weight?",
    ),
    "value": (
        {"overrides": {"model.minibatch_size": 7}},
        "complex_varshare: model.minibatch_size: 7 is not allowed; a divisor",
    ),
    "option of another method": (
        {"overrides": {"model.sharing.prior_scale": 0.1}},
        "complex_shared: ",
    ),
}


def test_how_the_report_shows_methods(tmp_path: Path) -> None:
    shown = {"order": ["shared"], "names": {"varshare": "VarShare (ours)"}, "colors": {"shared": "0.4"}}
    study = read(tmp_path, suites=["cartpole"], methods=["methods/varshare", "methods/shared"], report=shown)
    assert study.shown == Shown(("shared",), {"varshare": "VarShare (ours)"}, {"shared": "0.4"})
    assert study.methods == ["varshare", "shared"]  # in which they run
    StudyFolder(tmp_path).describe(study, {})
    plan = json.loads((tmp_path / "study.json").read_text())
    assert plan["method_order"] == ["shared", "varshare"]
    assert (plan["method_names"], plan["method_colors"]) == (shown["names"], shown["colors"])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, message = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    file = small.write(tmp_path, **changes)
    assert main(["study", str(file), *(["--tune"] if "tune" in changes else [])]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"varshare: error: {message}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


@pytest.mark.parametrize("value", [5, "5", 10, 4294967295])
def test_one_number_may_be_a_seed_or_so_many(value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^seeds: {value} is not allowed; \[{value}\] .* or 1-{value} .* is$"):
        seeds(value, "seeds")


PLAIN = "suites: {a: cartpole}\nmethods: {b: methods/shared}\n"
LINES: dict[str, tuple[str, str]] = {  # text that the file of a study holds, and what is said of it
    "key twice": (
        "suites: [cartpole]\nmethods:\n  a: methods/shared\n  a: methods/varshare\n",
        "methods.a: given twice, first in line 3; once is allowed (file.yaml, line 4)",
    ),
    "section twice": (PLAIN + "seeds: 1-2\nseeds: 1-3\n", "seeds: given twice, first in line 3;"),
    "option twice": (
        PLAIN + "overrides: {model.gamma: 0.9, model.gamma: 0.8}\n",
        "overrides.model.gamma: given twice, in one line; once is allowed (file.yaml, line 3)",
    ),
    "base 60": (PLAIN + "seeds: 1:10\n", "seeds: 1:10 is not allowed; seeds without leading zeros, as 1-10 or"),
    "base 60 in a list": (PLAIN + "seeds: [3, 1:10]\n", "seeds: ['3', '1:10'] is not allowed; seeds without"),
    "base 60, tuning": (
        PLAIN + "tune: {parameters: {model.gamma: [1, 0]}, trials: 1, env_steps: 1, seeds: 1:10}\n",
        "tune.seeds: 1:10 is not allowed; seeds",
    ),
    "octal": (PLAIN + "seeds: 010\n", "seeds: 010 is not allowed; seeds without leading zeros, as 1-10 or"),
    "octal workers": (
        PLAIN + "workers: 010\n",
        'workers: 010 is not allowed; 10 or 8 (octal) or "010" (text) is (file',
    ),
    "base 60 steps": (
        PLAIN + "overrides: {data.total_env_steps: 1:40:00}\n",
        'overrides.data.total_env_steps: 1:40:00 is not allowed; 6000 (base 60) or "1:40:00" (text) is (file.yaml,',
    ),
    "seeds": (PLAIN + "seeds: 5\n", "seeds: 5 is not allowed; [5] (this seed alone) or 1-5 (so many seeds) is"),
    "part of an integer": (PLAIN + "workers: 1.5e0\n", "workers: 1.5 is not allowed; an integer of at least 1 is"),
}


@pytest.mark.parametrize("name", LINES)
def test_what_yaml_would_read_otherwise_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, message = LINES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.yaml").write_text(text)
    assert main(["study", "file.yaml", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"varshare: error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "null", "true", "1e3", "007", "2026-01-01", "0x10", "1.0"])
def test_names_and_labels_are_what_the_file_says(word: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(
        f"name: {word}\nsuites: {{{word}: cartpole}}\nmethods:\n  {word}: methods/shared\n  b: {{model.gamma: 0.5}}\n"
        f"reference: {word}\ndescription: {word}\n"
    )
    study = read_study(file, resolve_config)
    assert (study.name, study.suites, study.methods, study.reference) == (word, [word], [word, "b"], word)
    assert study.description == word
    assert [variant.name for variant in study.variants] == [f"{word}_{word}", f"{word}_b"]


def test_scientific_numbers_are_integers_where_those_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    tune = "{parameters: {model.gamma: [0.9, 0.8]}, trials: 1e1, env_steps: 2.5e3, seeds: [9]}"
    file.write_text(f"{PLAIN}workers: 2e0\nslurm: {{cpus: 4e0}}\ntune: {tune}\n")
    study = read_study(file, resolve_config)
    assert study.tuning is not None
    found = study.workers, study.slurm.cpus, study.tuning.trials, study.tuning.env_steps
    assert found == (2, 4, 10, 2500)
    assert all(isinstance(number, int) for number in found)


def test_configs_are_found_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "small.yaml").write_text("data: {suite: CartPole}\n")
    (tmp_path / "mine" / "file.yaml").write_text(
        "suites: [small.yaml, cartpole]\nmethods: {a: {configs: [small.yaml]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    beside = ("--config", "mine/small.yaml")
    first, second = read_study(Path("mine/file.yaml"), resolve_config).variants
    assert (first.name, first.args, second.args) == ("small_a", beside * 2, ("--config", "cartpole", *beside))


def test_values_of_a_suite_reach_the_command_line_as_they_are(tmp_path: Path) -> None:
    text = "[{id: CartPole-v1, name: on, kwargs: {a: 'off', b: off, c: .nan, d: {1: '1'}, e: \"x\\ny\"}}]"
    (tmp_path / "file.yaml").write_text(f"{PLAIN}overrides: {{data.suite: {text}}}\n")
    (variant,) = read_study(tmp_path / "file.yaml", resolve_config).variants
    (task,) = load(variant.args[variant.args.index("--data.suite") + 1])
    kwargs = {"a": "off", "b": False, "c": float("nan"), "d": {1: "1"}, "e": "x\ny"}
    assert same(task, {"id": "CartPole-v1", "name": "on", "kwargs": kwargs})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["nowhere"],
            "study: nowhere is neither a file nor a shipped study; shipped are dial, dial_calibration, dial_sizes, "
            "metaworld_mt5_fast, methods, noise, original, sharing",
        ),
        (["sharing", "--worker", "2"], "study: unrecognized arguments: --worker 2; 'varshare study --help' lists"),
        (["sharing", "--workers", "none"], "--workers: none is not allowed; an integer of at least 1 is"),
        (["sharing", "--executor", "x"], "--executor: x is not allowed; local or slurm or ray is"),
        (["noise", "--tune"], "tune: missing in "),
        ([], "study: the following arguments are required: STUDY;"),
    ],
)
def test_a_mistake_on_the_command_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"varshare: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "dial" else name for name in shipped_studies()]
)
def test_a_shipped_study_is_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", name, "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    expected = {
        "original": (4, 3, 200_000),
        "sharing": (24, 10, 300_000),
        "noise": (16, 5, 300_000),
        "methods": (48, 3, 300_000),
        "dial_calibration": (5, 3, 117_000),
        "dial_sizes": (14, 3, 117_000),
        "metaworld_mt5_fast": (3, 3, 900_000),
        "dial": (121, 10, (7 * 117_000 + 250_000 + 350_000 + 2 * 500_000) / 11),
    }
    variants, seeds, steps = expected[name]
    assert out[0] == f"{name}: {variants} variants × {seeds} seeds in logs/{name}"
    total = f"{round(variants * seeds * steps):,}"
    assert out[-1] == f"{variants * seeds} runs, {total} env steps, {total} of them left"
    assert len(set(out[1:-1])) == variants * seeds
    assert all(line.startswith("waiting      varshare fit --config ") for line in out[1:-1])
    assert not list(tmp_path.iterdir())
