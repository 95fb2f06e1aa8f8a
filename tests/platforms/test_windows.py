"""Every command does its work where Python is that of Windows; ``windows/sitecustomize.py`` says what is not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

WINDOWS = str(Path(__file__).parent / "windows")
SMALL = {
    "data.num_envs": 5,
    "data.rollout_steps": 8,
    "data.total_env_steps": 80,
    "model.minibatch_size": 40,
    "model.hidden_sizes": [8],
    "evaluation.episodes": 2,
    "evaluation.every": 1000,
    "checkpoint.every": 1,
    "plots.enabled": False,
}
ALL_IN_ONE = """
import json, sys
from varshare_pl.cli.main import main

if __name__ == "__main__":
    print("codes", [main(args) for args in json.loads(sys.argv[1])])
"""


def python(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": WINDOWS, **environment}
    return subprocess.run([sys.executable, *args], cwd=folder, env=env, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_and_what_is_made_of_it(tmp_path: Path) -> None:
    options = [word for key, value in SMALL.items() for word in (f"--{key}", json.dumps(value))]
    run = "logs/run/seed_1"
    commands = [
        ["fit", *options, "--experiment", "run", "--data.backend", "workers", "--data.num_workers", "2"],
        ["resume", run, "--data.total_env_steps", "120"],
        ["describe", "--config", "complex_cartpole"],
        ["validate", "--config", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt"],
        ["report", run],
    ]
    (tmp_path / "all_in_one.py").write_text(ALL_IN_ONE)
    done = python(tmp_path, "all_in_one.py", json.dumps(commands))
    assert done.stdout.splitlines()[-1:] == ["codes [0, 0, 0, 0, 0]"], done.stderr
    assert done.stderr == ""
    summary = json.loads((tmp_path / run / "summary.json").read_text())
    assert summary["env_steps"] == 120
    assert summary["peak_memory_mb"] > 100
    assert b"\r" not in (tmp_path / run / "run.json").read_bytes()
    assert (tmp_path / run / "report" / "report.html").is_file()


@pytest.mark.slow
def test_a_study(tmp_path: Path) -> None:
    study = {"name": "small", "suites": {"complex": "complex_cartpole"}, "methods": {"shared": "methods/shared"}}
    (tmp_path / "file.yaml").write_text(yaml.safe_dump({**study, "seeds": [1], "overrides": SMALL}))
    done = python(tmp_path, "-m", "varshare_pl", "study", "file.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 finished"


def test_files_are_utf_8_where_the_locale_is_not(tmp_path: Path) -> None:
    """Started again in the UTF-8 mode, a command keeps its exit code, and its Ctrl-C."""
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = python(tmp_path, "-m", "varshare_pl", "report", "missing", **ascii_locale)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "missing" in done.stderr
