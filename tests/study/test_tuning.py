"""Tuning: the same budget for every variant, on seeds of its own, and trials that follow from nothing but results."""

import csv
import hashlib
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
import small
import yaml

from varshare_pl.cli.configs import resolve_config
from varshare_pl.study.definition import read_study
from varshare_pl.study.folder import StudyFolder
from varshare_pl.study.runs import mean_over_run
from varshare_pl.study.trials import STARTUP, Search

LOW, HIGH = 1e-4, 1e-2
TUNE: dict[str, Any] = {
    "parameters": {
        "model.lr_actor": {"low": LOW, "high": HIGH, "log": True},
        "model.update_epochs": {"low": 1, "high": 4},
        "model.sharing.prior_scale": [0.05, 0.1],
    },
    "trials": 3,
    "env_steps": 640,
    "seeds": [101, 102],
}
ONE = {"suites": {"mirrored": "mirrored_cartpole"}, "methods": {"ours": "methods/varshare"}, "seeds": [1]}


def trials_of(folder: Path, variant: str) -> list[dict[str, str]]:
    with (folder / "logs" / "small" / "tuning" / variant / "trials.csv").open() as table:
        return list(csv.DictReader(table))


def test_each_variant_is_tuned_and_the_study_uses_what_was_found(tmp_path: Path) -> None:
    methods = {"ours": "methods/varshare", "mean": {"configs": ["methods/varshare"], "model.actor_noise": "mean"}}
    small.write(tmp_path, **{**ONE, "methods": methods}, tune=TUNE)
    code, out, err = small.study(tmp_path, "--tune", "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "2 variants × 3 trials × 2 seeds × 640 env steps = 7,680 env steps at most"
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]

    code, out, err = small.study(tmp_path, "--tune")
    assert (code, err) == (0, "")
    assert "12 finished" in out
    for variant in ("mirrored_ours", "mirrored_mean"):
        rows = trials_of(tmp_path, variant)
        assert [row["state"] for row in rows] == ["complete"] * 3
        for number, row in enumerate(rows):
            runs = small.runs(tmp_path / "logs" / "small" / "tuning" / variant / f"trial_{number}")
            assert sorted(runs) == ["seed_101", "seed_102"]
            areas = [sum(returns) / len(returns) for returns in map(evaluations, runs.values())]
            assert float(row["return_mean"]) == pytest.approx(sum(areas) / 2, rel=1e-8)
            model = yaml.safe_load((runs["seed_101"] / "config.yaml").read_text())["model"]
            assert model["lr_actor"] == float(row["model.lr_actor"])
            assert model["sharing"]["init_args"]["prior_scale"] == float(row["model.sharing.prior_scale"])
            assert model["update_epochs"] == int(row["model.update_epochs"])
        best = max(rows, key=lambda row: float(row["return_mean"]))
        tuned = yaml.safe_load((tmp_path / "configs" / "tuned" / "small" / f"{variant}.yaml").read_text())
        assert tuned["model"]["lr_actor"] == float(best["model.lr_actor"])
        assert tuned["model"]["sharing"] == {"init_args": {"prior_scale": float(best["model.sharing.prior_scale"])}}
    values = [[row["model.lr_actor"] for row in trials_of(tmp_path, f"mirrored_{name}")] for name in methods]
    assert values[0] == values[1]  # both begin with the same points
    assert len(set(values[0])) == 3
    shipped = {"model.lr_actor": "0.005", "model.update_epochs": "4", "model.sharing.prior_scale": "0.1"}
    for name in methods:
        assert shipped.items() <= trials_of(tmp_path, f"mirrored_{name}")[0].items()

    small.write(tmp_path, **{**ONE, "methods": methods}, tune=TUNE, tuned="configs/tuned/small")
    assert small.study(tmp_path)[0] == 0
    folder = tmp_path / "logs" / "small"
    model = yaml.safe_load((folder / "mirrored_mean" / "seed_1" / "config.yaml").read_text())["model"]
    best = max(trials_of(tmp_path, "mirrored_mean"), key=lambda row: float(row["return_mean"]))
    assert model["lr_actor"] == float(best["model.lr_actor"])
    assert model["sharing"]["init_args"]["prior_scale"] == float(best["model.sharing.prior_scale"])
    assert model["actor_noise"] == "mean"
    budget = {**TUNE, "sampler": "tpe", "pruner": "none", "parameters": list(TUNE["parameters"])}
    assert json.loads((folder / "study.json").read_text())["tuning"] == budget

    small.write(tmp_path, **{**ONE, "methods": methods, "seeds": [101]}, tuned="configs/tuned/small")
    code, _, err = small.study(tmp_path)
    assert code == 2
    assert "seeds: configs/tuned/small was tuned on seed 101; only seeds that it does not use are allowed" in err


def test_a_search_goes_on_exactly_and_overwrites_nothing(tmp_path: Path) -> None:
    small.write(tmp_path, **ONE, tune={**TUNE, "trials": 2})
    assert small.study(tmp_path, "--tune")[0] == 0
    first = trials_of(tmp_path, "mirrored_ours")
    small.write(tmp_path, **ONE, tune=TUNE)
    code, _, err = small.study(tmp_path, "--tune")
    assert code == 2
    assert "configs/tuned/small/mirrored_ours.yaml exists already; move it away to tune again" in err
    (tmp_path / "configs" / "tuned" / "small" / "mirrored_ours.yaml").unlink()
    assert small.study(tmp_path, "--tune")[0] == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    small.write(whole, **ONE, tune=TUNE)
    assert small.study(whole, "--tune", "--workers", "1")[0] == 0
    assert trials_of(tmp_path, "mirrored_ours") == trials_of(whole, "mirrored_ours")
    assert trials_of(tmp_path, "mirrored_ours")[:2] == first
    file = Path("configs/tuned/small/mirrored_ours.yaml")
    assert (tmp_path / file).read_text() == (whole / file).read_text()
    small.write(tmp_path, **ONE, tune={**TUNE, "env_steps": 800})
    code, _, err = small.study(tmp_path, "--tune")
    assert code == 2
    assert "tune: env_steps is 800, the trials in logs/small/tuning/mirrored_ours were made with 640" in err


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"model.lr_actor": {"low": 1e-4, "high": 1e-3}}, "model.lr_actor: mirrored_ours has 0.005"),
        ({"model.update_epochs": [2, 8]}, "model.update_epochs: mirrored_ours has 4"),
        ({"model.target_kl": {"low": 0.1, "high": 1.0}}, "model.target_kl: mirrored_ours has None"),
    ],
)
def test_a_space_without_the_shipped_values_is_refused(tmp_path: Path, parameters: Any, told: str) -> None:
    small.write(tmp_path, **ONE, tune={**TUNE, "parameters": parameters})
    code, _, err = small.study(tmp_path, "--tune")
    assert code == 2
    assert err.startswith(f"varshare: error: tune.parameters.{told} before it is tuned, which is its first trial; ")
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


def test_parameters_are_checked_at_the_ends_of_their_ranges(tmp_path: Path) -> None:
    bad = {**TUNE, "parameters": {"model.gamma": {"low": 0.5, "high": 1.5}}}
    small.write(tmp_path, **ONE, tune=bad)
    code, _, err = small.study(tmp_path, "--tune")
    assert code == 2
    assert err.startswith("varshare: error: mirrored_ours: model.gamma: 1.5 is not allowed;")
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


def evaluations(run: Path) -> list[float]:
    """The mean returns of a run's evaluations."""
    with (run / "heartbeat.csv").open() as table:
        return [float(row["eval/return_mean"]) for row in csv.DictReader(table) if row["eval/return_mean"]]


START = {"model.lr_actor": 5e-3}  # what the variant has without tuning


def search_with(folder: Path, score: Any, **tune: Any) -> Search:
    """A search whose runs are not trained: each gets the score of its learning rate and seed, None is a failure."""
    rate = {"model.lr_actor": TUNE["parameters"]["model.lr_actor"]}
    folder.mkdir(exist_ok=True)
    small.write(folder, **ONE, tune={**TUNE, "parameters": rate, **tune})
    study = read_study(folder / "file.yaml", resolve_config)
    assert study.tuning is not None
    place = StudyFolder(folder / "logs" / "small")
    while True:
        search = Search(
            study, study.tuning, study.variants[0], place, folder / "logs", START
        )  # made anew, as after a kill
        if not search.advance():
            return search
        waiting = [run for run in search.runs if place.state(run) == "waiting"]
        assert waiting
        for run in waiting:
            value = score(float(run.args[run.args.index("--model.lr_actor") + 1]), int(run.folder.name[5:]))
            run.folder.mkdir(parents=True)
            if value is None:
                place.record_failure(run, 1, "it failed", place.log(run))
            else:
                (run.folder / "summary.json").write_text(json.dumps({"final": {}}))
                lines = ("env_steps,eval/return_mean", "1,", f"2,{value - 1}", f"3,{value + 1}", "")
                (run.folder / "heartbeat.csv").write_text("\n".join(lines))


def test_trials_are_those_of_optuna_itself(tmp_path: Path) -> None:
    """TPE's choices after the random start are what Optuna suggests to one who tells it the same results."""

    def score(rate: float, seed: int) -> float:
        return -((rate - 3e-3) ** 2) * 1e6 + seed

    search = search_with(tmp_path, score, trials=8)
    distribution = optuna.distributions.FloatDistribution(LOW, HIGH, log=True)
    for number, trial in enumerate(search.trials):
        assert trial.value == pytest.approx(score(trial.params["model.lr_actor"], 101) + 0.5)
        if number >= STARTUP:
            asked = search_seed(number)
            study = optuna.create_study(
                direction="maximize", sampler=optuna.samplers.TPESampler(seed=asked, n_startup_trials=STARTUP)
            )
            for earlier in search.trials[:number]:
                study.add_trial(
                    optuna.trial.create_trial(
                        params=earlier.params,
                        distributions={"model.lr_actor": distribution},
                        value=earlier.value,
                        intermediate_values=earlier.intermediate_values,
                    )
                )
            assert study.ask({"model.lr_actor": distribution}).params == trial.params
    assert search.trials[0].params == START
    random = search_with(tmp_path / "random", score, trials=8, sampler="random")
    points = [[trial.params["model.lr_actor"] for trial in one.trials] for one in (search, random)]
    assert points[0][:STARTUP] == points[1][:STARTUP]
    assert points[0][STARTUP:] != points[1][STARTUP:]


def search_seed(number: int) -> int:
    return int(hashlib.sha256(f"small/{number}".encode()).hexdigest()[:8], 16)


def test_the_median_pruner_saves_the_second_seed_of_bad_trials(tmp_path: Path) -> None:
    search = search_with(tmp_path, lambda rate, seed: 1000 * rate, trials=9, pruner="median")
    for number, trial in enumerate(search.trials):
        before = [one.intermediate_values[0] for one in search.trials[:number] if one.state.name == "COMPLETE"]
        bad = len(before) >= STARTUP and 1000 * trial.params["model.lr_actor"] < statistics.median(before)
        assert trial.state.name == ("PRUNED" if bad else "COMPLETE")
        assert len(trial.intermediate_values) == (1 if bad else 2)
    assert {trial.state.name for trial in search.trials} == {"PRUNED", "COMPLETE"}


def test_a_trial_with_a_failed_run_counts_and_is_not_the_best(tmp_path: Path) -> None:
    search = search_with(tmp_path, lambda rate, seed: None if rate > 1e-3 and seed == 102 else -1 / rate, trials=6)
    failed = [trial for trial in search.trials if trial.params["model.lr_actor"] > 1e-3]
    assert 0 < len(failed) < 6
    assert all(trial.state.name == "FAIL" for trial in failed)
    best = search.best()
    assert best is not None
    assert best.params["model.lr_actor"] == max(
        trial.params["model.lr_actor"] for trial in search.trials if trial not in failed
    )


def test_a_trial_that_solves_sooner_is_the_better_one(tmp_path: Path) -> None:
    for name, returns in (("soon", [0, 100]), ("late", [0, 0, 0, 100]), ("never", [0, 0, 0, 50])):
        rows = "".join(f"{100 * i},{value}\n{100 * i + 50},\n" for i, value in enumerate(returns[:-1], 1))
        rows += f"{100 * len(returns)},{returns[-1]}\n"
        (tmp_path / name).mkdir()
        (tmp_path / name / "heartbeat.csv").write_text(f"env_steps,eval/return_mean\n{rows}")
        (tmp_path / name / "summary.json").write_text(json.dumps({"final": {"solved": name != "never"}}))
    found = {name: mean_over_run(tmp_path / name, length=400) for name in ("soon", "late", "never")}
    assert found == {"soon": 75.0, "late": 25.0, "never": 12.5}  # the first ended at 200 and counts on


def test_trials_stand_in_a_storage_of_optuna_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    methods = {"ours": "methods/varshare", "mean": {"configs": ["methods/varshare"], "model.actor_noise": "mean"}}
    study = {**ONE, "methods": methods, "tune": {**TUNE, "seeds": [101], "storage": url}}
    small.write(tmp_path, **study)
    assert small.study(tmp_path, "--tune", "--dry-run")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]
    for trials in (2, 3):  # the second time those of the first are there already
        small.write(tmp_path, **{**study, "tune": {**study["tune"], "trials": trials}})
        assert small.study(tmp_path, "--tune")[0] == 0
        shutil.rmtree(tmp_path / "configs")
        for variant in ("mirrored_ours", "mirrored_mean"):
            shown = optuna.load_study(study_name=f"small/{variant}", storage=url)
            rows = trials_of(tmp_path, variant)
            assert [trial.user_attrs["trial"] for trial in shown.trials] == list(range(trials))
            for row, trial in zip(rows, shown.trials, strict=True):
                assert trial.value == pytest.approx(float(row["return_mean"]), rel=1e-8)
                assert trial.params["model.lr_actor"] == float(row["model.lr_actor"])
    assert shown.direction.name == "MAXIMIZE"


@pytest.mark.parametrize("url", ["nowhere", "nosql://here", "sqlite:///no/such/folder/search.db"])
def test_a_storage_that_cannot_be_is_one_line(tmp_path: Path, url: str) -> None:
    small.write(tmp_path, **ONE, tune={**TUNE, "storage": url})
    code, _, err = small.study(tmp_path, "--tune")
    assert code == 2
    assert err.startswith(f"varshare: error: tune.storage: {url} is not allowed (")
    assert err.endswith("a URL that Optuna can open, as sqlite:///search.db, is\n")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]
