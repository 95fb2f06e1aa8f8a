"""The README's example of a method is real: it is taken from there and trained.

``tests/sharing/test_properties.py`` holds it to what every method must do.
"""

import sys
from pathlib import Path

import pytest
from helpers import readme_example

from varshare_pl.cli.main import main

README = Path(__file__).parents[1] / "README.md"


def test_the_example_method_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "task_bias.py").write_text(readme_example(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "task_bias", None)  # so that the import's module is forgotten afterwards
    del sys.modules["task_bias"]
    args = ["fit", "--config", "complex_cartpole", "--model.sharing", "task_bias.TaskBias"]
    args += ["--data.total_env_steps", "10240", "--evaluation.episodes", "1", "--plots.enabled", "false"]
    assert main(args) == 0
    run = tmp_path / "logs" / "complex_cartpole_task_bias" / "seed_1"
    assert (run / "summary.json").exists()


def test_every_shipped_config_stands_in_the_readme() -> None:
    from varshare_pl.cli.configs import shipped_configs

    text = README.read_text(encoding="utf-8")
    for name in shipped_configs():
        family = "experiments/{complex,identical}_{serial,parallel}" if name.startswith("experiments/") else name
        assert f"`{family}`" in text, name
