"""``~`` is the home folder in every path: of options, config files, study files and variables."""

import shutil
from pathlib import Path

import pytest
from helpers import end_fork_server

import varshare_pl
from varshare_pl.cli.main import main
from varshare_pl.compilation.cache import cache_dir

TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "40"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
TINY += ["--evaluation.every", "0", "--plots.enabled", "false"]
RUN = "~/runs/tiny/seed_1"


@pytest.fixture
def home(here, tiny_run, monkeypatch):
    """The home folder, with a finished run in it; the current folder is another one."""
    folder = here.parent / "home"
    monkeypatch.setenv("HOME", str(folder))
    end_fork_server()
    shutil.copytree(tiny_run.parents[1], folder / "runs")
    yield folder
    end_fork_server()
    assert not list(here.rglob("~*")), "a folder called ~"


def test_a_run_goes_to_the_home_folder_and_is_found_there(home, capsys):
    (home / "logs.yaml").write_text("logs_dir: ~/logs\nexperiment: a\n", encoding="utf-8")
    options = ["fit", "--config=~/logs.yaml", *TINY]
    assert main([*options, "--init_from=~/runs/tiny/seed_1/checkpoints/last.ckpt"]) == 0
    assert (home / "logs" / "a" / "seed_1" / "summary.json").is_file()
    assert main([*options, "--ckpt_path", "last"]) == 2
    assert "is finished after 40 env steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["resume", RUN, "--data.total_env_steps", "120"],
        ["plot", RUN],
        ["report", RUN],
        ["prune", RUN, "--threshold", "1", "--ckpt_path=~/runs/tiny/seed_1/checkpoints/last.ckpt"],
        ["validate", f"--config={RUN}/config.yaml", f"--ckpt_path={RUN}/checkpoints/last.ckpt"],
        ["describe", f"--config={RUN}/config.yaml"],
        ["play", RUN, "--output=~/out.gif"],
    ],
    ids=lambda command: command[0],
)
def test_commands_find_the_home_folder(home, capsys, drawn, command):
    assert main(command) == 0, capsys.readouterr().err
    assert command[0] not in ("plot", "report") or drawn
    assert command[0] != "play" or (home / "out.gif").is_file()


def test_a_study_finds_configs_values_and_finished_runs(home, capsys):
    runs = home / "runs"
    (runs / "s").mkdir()
    (runs / "s" / "study.json").write_text('{"name": "s"}', encoding="utf-8")
    shutil.move(runs / "tiny", runs / "s" / "a_b")
    config = runs / "s" / "a_b" / "seed_1" / "config.yaml"
    (home / "empty.yaml").write_text("threads: 1\n", encoding="utf-8")
    (home / "tuned").mkdir()
    (home / "tuned" / "a_b.yaml").write_text("threads: 1\n", encoding="utf-8")
    lines = [f"suites: {{a: ~/{config.relative_to(home)}}}", "methods: {b: ~/empty.yaml}", "tuned: ~/tuned"]
    (home / "s.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert main(["study", "~/s.yaml", "--dry-run", "--logs_dir=~/runs"]) == 0
    assert "finished     varshare fit" in capsys.readouterr().out


def test_python_finds_it_too(home):
    policy = varshare_pl.load_policy(RUN)
    assert policy.export("~/one.pt2", task=0) == home / "one.pt2"
    assert (home / "one.pt2").is_file()


def test_variables(home, monkeypatch):
    monkeypatch.setenv("VARSHARE_CACHE", "~/mine")
    assert cache_dir() == home / "mine"
    monkeypatch.delenv("VARSHARE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    assert cache_dir() == home / "caches" / "varshare"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == home / ".cache" / "varshare"


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "--logs_dir=~nobody-here/logs", *TINY],
        ["resume", "~nobody-here/logs"],
        ["report", "~nobody-here/logs"],
        ["study", "sharing", "--dry-run", "--logs_dir=~nobody-here"],
        ["study", "~nobody-here/s.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_the_home_of_nobody(here, capsys, command):
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "the folder ~nobody-here is not known; a path without ~ is allowed" in err
    assert len(err.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_a_file_called_tilde(here):
    Path("~x.yaml").write_text("threads: 1\n", encoding="utf-8")
    assert main(["describe", "--config", "./~x.yaml"]) == 0
