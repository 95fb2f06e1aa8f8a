"""The sweep that ships, by W&B's own agent: a stand-in server gives it trials, which run offline and are read back."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_records import read_offline
from wandb_server import SweepServer, serving

from varshare_pl.cli.configs import configs_folder
from varshare_pl.cli.main import main
from varshare_pl.run_folder import of_trial
from varshare_pl.yaml_files import flat

SWEEP = configs_folder() / "sweeps" / "complex_cartpole.yaml"
SHORT = ["--data.num_envs", "5", "--data.rollout_steps", "16", "--data.total_env_steps", "160", "--plots.enabled"]
SHORT += ["false", "--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
TRIALS: dict[str, dict[str, Any]] = {
    "aaaa1111": {"model.kl_weight": 0.02, "model.lr_actor": 0.002, "seed_everything": 1},
    "bbbb2222": {"model.kl_weight": 0.5, "model.lr_actor": 0.002, "seed_everything": 1},
    "cccc3333": {"model.kl_weight": 0.5, "model.lr_actor": 1e-05, "seed_everything": 2},
}


def environment(**more: str) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), known["PATH"]])
    return {**known, "PATH": path, "WANDB_API_KEY": 40 * "a", "WANDB_MODE": "offline", **more}


@pytest.mark.slow
def test_an_agent_drives_the_sweep_that_ships(tmp_path: Path) -> None:
    content = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    content["command"][-1:] = [*SHORT, "--overwrite", "true", "${args}"]
    assert set(content["parameters"]) == set(TRIALS["aaaa1111"])
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump(content), encoding="utf-8")
    with serving(SweepServer(short, TRIALS)) as server:
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "agent", "me/varshare/swp1"],
            env=environment(WANDB_BASE_URL=server.address),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    experiment = tmp_path / "logs" / "complex_cartpole" / "swp1"
    assert {path.name for path in experiment.iterdir()} == set(TRIALS), done.stderr
    for run_id, parameters in TRIALS.items():
        folder = experiment / run_id / f"seed_{parameters['seed_everything']}"
        (part,) = read_offline(folder)
        assert (part.run.run_id, part.run.sweep_id, part.run.job_type) == (run_id, "swp1", "train")
        assert part.exit_code == 0
        assert {name: part.config[name] for name in parameters} == parameters
        assert (part.config["method"], part.config["suite"]) == ("varshare", "ComplexCartPole")
        assert len([name for name in part.config if name.endswith("kl_weight")]) == 1
        assert not [name for name in part.config if "/" in name]
        assert part.summary["final/return_mean"] == pytest.approx(part.history[-1]["eval/return_mean"])
    assert main(["report", str(experiment)]) == 0


def test_trials_never_meet_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "swp1")
    fit = ["fit", "--config", "complex_cartpole", *SHORT, "--logs_dir", str(tmp_path), "--overwrite"]
    for run_id in ("aaaa1111", "bbbb2222"):
        monkeypatch.setenv("WANDB_RUN_ID", run_id)
        assert main(fit) == 0
    first, second = (tmp_path / "complex_cartpole" / "swp1" / run_id / "seed_1" for run_id in ("aaaa1111", "bbbb2222"))
    assert (first / "summary.json").exists()
    assert yaml.safe_load((second / "config.yaml").read_text())["experiment"] == "complex_cartpole/swp1/bbbb2222"
    assert main(["resume", str(first), "--data.total_env_steps", "240"]) == 0  # another trial's id is set
    assert {path.name for path in (tmp_path / "complex_cartpole").iterdir()} == {"swp1"}
    assert (first / "heartbeat.csv").read_text().splitlines()[-1].startswith("240,")


def test_a_run_alone_keeps_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "aaaa1111")
    for sweep in (None, ""):
        if sweep is not None:
            monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
        assert of_trial("e") == "e"
    monkeypatch.setenv("WANDB_SWEEP_ID", "swp1")
    assert of_trial("a/e") == "a/e/swp1/aaaa1111"


def test_the_sweep_varies_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    assert main(["fit", "--config", "complex_cartpole", "--print_config"]) == 0
    assert set(sweep["parameters"]) <= set(flat(yaml.safe_load(capsys.readouterr().out)))
    assert sweep["command"][2:5] == ["fit", "--config", "complex_cartpole"]


def test_the_page_shows_the_file_that_ships() -> None:
    page = (configs_folder().parent / "docs" / "loggers.md").read_text(encoding="utf-8")
    assert f"```yaml\n{SWEEP.read_text(encoding='utf-8').partition(chr(10))[2]}```" in page
