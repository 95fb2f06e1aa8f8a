"""What W&B gets beside numbers: the best checkpoint and a video, where they are asked for."""

from pathlib import Path

import pytest
from PIL import Image
from wandb_records import read_offline

from varshare_pl.cli.main import main
from varshare_pl.trained.play import film

SMALL = ["--data.num_envs", "5", "--data.rollout_steps", "16", "--data.total_env_steps", "80", "--experiment", "e"]
SMALL += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
SMALL += ["--plots.enabled", "false", "--data.suite", "ComplexCartPole"]
BOTH = ["--artifacts.checkpoint", "true", "--artifacts.video", "true"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def test_checkpoint_and_video_are_sent(tmp_path: Path) -> None:
    assert main(["fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "wandb,csv", *BOTH]) == 0
    run = tmp_path / "e" / "seed_1"
    (part,) = read_offline(run)
    assert {(a.type, a.name, entry.path) for a in part.artifacts for entry in a.manifest.contents} == {
        ("model", f"best-{part.run.run_id}", "best.ckpt"),
        ("video", f"final-{part.run.run_id}", "final.gif"),
    }
    with Image.open(run / "final.gif") as video:
        assert video.n_frames > 5
    assert part.history[-1]["video/final"]["_type"] == "video-file"
    assert part.history[-1]["env_steps"] == 80


def test_nothing_is_sent_unasked(tmp_path: Path) -> None:
    assert main(["fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "wandb"]) == 0
    (part,) = read_offline(tmp_path / "e" / "seed_1")
    assert part.artifacts == []
    assert not (tmp_path / "e" / "seed_1" / "final.gif").exists()


def test_a_video_that_cannot_be_made_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "write", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.warns(UserWarning, match="the video was not made: OSError: no space left"):
        assert main(["fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "wandb", *BOTH[2:]]) == 0
    assert (tmp_path / "e" / "seed_1" / "summary.json").exists()


@pytest.mark.parametrize("name", ["checkpoint", "video"])
def test_there_must_be_a_logger_that_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    args = ["fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "csv", f"--artifacts.{name}", "true"]
    assert main(args) == 2
    told = f"artifacts.{name}: true is not allowed without a logger for it; --logger wandb is one"
    assert capsys.readouterr().err.splitlines() == [f"varshare: error: {told}"]
    assert list(tmp_path.iterdir()) == []
