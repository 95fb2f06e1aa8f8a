"""Every shipped config is valid as it is, and trains: two short rollouts, with every file of a run at the end."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from varshare_pl.cli.configs import shipped_configs
from varshare_pl.cli.main import main
from varshare_pl.cli.variants import check_variant

CONFIGS = shipped_configs()
PLAIN = ("cartpole", "acrobot")  # in the names of suites whose shipped results are without normalisation
SLOW = ("metaworld_mt5_fast", "metaworld_mt10", "metaworld_mt50")  # tens of envs that take long to make
DRAWN = ("complex_cartpole", "metaworld_mt3", "pendulum_family")  # one of each kind of plots; others are like these
STEPS = 8  # of a rollout
METHODS = {name.removeprefix("methods/") for name in CONFIGS if name.startswith("methods/")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CONFIGS]
)
def test_shipped_config_trains(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: dict[str, Any]
) -> None:
    method = name.removeprefix("methods/") if name.startswith("methods/") else "varshare"
    alone = "data:" in CONFIGS[name].read_text(encoding="utf-8")
    base = name if alone else "complex_cartpole"  # some configs only make sense behind another
    configs = ["--config", base, *(["--config", name] if name != base else [])]
    content = yaml.safe_load(CONFIGS[base].read_text(encoding="utf-8"))
    data = content["data"]
    assert check_variant(["fit", *configs], [])["data.total_env_steps"] == data["total_env_steps"]

    steps = STEPS * data["num_envs"]
    short = ["--data.rollout_steps", str(STEPS), "--data.total_env_steps", str(2 * steps)]
    short += ["--model.minibatch_size", str(steps), "--evaluation.episodes", "1"]
    short += ["--evaluation.envs_per_task", "1", "--evaluation.max_episode_steps", "50"]
    short += ["--plots.enabled", str(name in DRAWN).lower()]

    assert main(["fit", *configs, *short, "--logs_dir", str(tmp_path)]) == 0

    experiment = base if method == "varshare" else f"{base}_{method}"
    run = tmp_path / experiment.removeprefix("experiments/") / "seed_1"
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == f"results: {run}"
    with (run / "heartbeat.csv").open() as table:
        assert [int(row["env_steps"]) for row in csv.DictReader(table)] == [steps, 2 * steps]
    assert len((run / "diagnostics.csv").read_text().splitlines()) > 2
    info, summary = (json.loads((run / file).read_text()) for file in ("run.json", "summary.json"))
    assert (info["method"], info["seed"]) == (method, 1)
    assert summary["finished"]
    assert len(summary["final"]["return_per_task"]) == len(info["task_names"])
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["suite"] == data["suite"]
    assert (run / "checkpoints" / "last.ckpt").stat().st_size > 0
    assert ("returns" in drawn) == (name in DRAWN)


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("methods/")])
def test_shipped_results_are_without_normalisation(name: str) -> None:
    """By the file alone, which others stand behind; a default that changes must not change them."""
    content = yaml.safe_load(CONFIGS[name].read_text(encoding="utf-8"))
    if not any(part in str(content.get("data", {}).get("suite")).lower() + name for part in PLAIN):
        pytest.skip("it stands behind another config, or is of another suite")
    model = content["model"]
    assert (model["normalize_observations"], model["normalize_rewards"]) == ("none", "none")
    assert not {"normalize_returns", "popart"} & model.keys()


def test_each_method_has_a_config() -> None:
    from varshare_pl.sharing import method_names

    own = {name for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
    assert own == METHODS
