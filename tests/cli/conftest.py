"""An empty folder to run in, and a short run to ask questions about."""

from pathlib import Path

import pytest

from varshare_pl.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of VarShare on ComplexCartPole with one hidden layer of 8; not to be changed."""
    logs = tmp_path_factory.mktemp("tiny")
    sizes = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "80"]
    sizes += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "2"]
    sizes += ["--checkpoint.every", "1", "--evaluation.every", "1000", "--plots.enabled", "false"]
    assert main(["fit", *sizes, "--experiment", "tiny", "--logs_dir", str(logs)]) == 0
    return logs / "tiny" / "seed_1"
