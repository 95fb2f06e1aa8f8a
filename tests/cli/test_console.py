"""Commands in odd surroundings, as real processes: encodings, closed streams and pipes, the backend of a notebook."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from varshare_pl.cli.console import console

VARSHARE = Path(sys.executable).with_name("varshare")
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
SUITE = '[{"id": "CartPole-v1", "name": "ü 日本"}, {"id": "CartPole-v1", "name": "_b"}]'
TINY = ["--data.num_envs", "2", "--data.rollout_steps", "8", "--data.total_env_steps", "16", "--data.suite", SUITE]
TINY += ["--model.minibatch_size", "16", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
TINY += ["--model.sharing", "shared"]  # with fewer plots


def shell(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of bash, in which $V is ``varshare``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "V": str(VARSHARE)} | variables
    line = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with ü in a task's name, made in a notebook whose locale is ASCII."""
    folder = tmp_path_factory.mktemp("ascii")
    options = " ".join(f"'{option}'" for option in TINY)
    done = shell(folder, f"$V fit --experiment a {options}", **ASCII, **NOTEBOOK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert rb"\xfc \u65e5\u672c" in done.stdout
    return folder / "logs" / "a" / "seed_1"


def test_files_are_utf8_whatever_the_locale(run):
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["suite"][0]["name"] == "ü 日本"
    assert (run / "plots" / "returns.png").is_file()


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"1 +- 2 x \xfc \u65e5"),
        ("latin-1", b"1 \xb1 2 \xd7 \xfc \\u65e5"),
        ("utf-8", "1 ± 2 × ü 日".encode()),
    ],
)
def test_any_encoding_takes_any_text(monkeypatch, encoding, written):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with console(program=False):
        print("1 ± 2 × ü 日", end="")
    assert stream.buffer.getvalue() == written
    assert stream.errors == "strict"


def test_a_report_with_closed_streams(run):
    assert shell(run, "$V report . >&- 2>&- <&-").returncode == 0
    assert "ü 日本" in (run / "report" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("pipe", ["| head -1", "| true", "2>&1 | true", ">&-", "2> /dev/full"])
def test_streams_that_nobody_reads(tmp_path, pipe):
    done = shell(tmp_path, f"$V --help {pipe}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_behind_standard_output_is_told(tmp_path):
    done = shell(tmp_path, "$V --help > /dev/full")
    assert done.returncode == 1
    assert done.stderr == b"varshare: error: cannot write to standard output: No space left on device\n"


def test_python_draws_with_the_backend_of_a_notebook(run):
    code = f"from varshare_pl.results.plots import run_figure; run_figure({str(run)!r}, 'losses')"
    done = shell(run, f"{sys.executable} -c \"{code}; import os; print(os.environ['MPLBACKEND'])\"", **NOTEBOOK)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == NOTEBOOK["MPLBACKEND"]


def test_a_users_own_backend_stays(run):
    code = "import varshare_pl.results.plots, matplotlib; print(matplotlib.get_backend())"
    done = shell(run, f'{sys.executable} -c "{code}"', MPLBACKEND="svg")
    assert done.stdout == b"svg\n", done.stderr


def test_a_fit_starts_without_plots_and_science():
    code = "from varshare_pl.cli.imports import load_run; load_run(); import sys; print(*sys.modules)"
    code += "; import scipy.stats, matplotlib.pyplot"  # they can be loaded later
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"matplotlib", "scipy", "pandas", "wandb"} & set(done.stdout.split())


@pytest.mark.parametrize("command", ["fit --config complex_cartpole", "report x", "study sharing --dry-run"])
def test_a_current_folder_that_is_gone(tmp_path, command):
    done = shell(tmp_path, f"mkdir gone; cd gone; rmdir ../gone; $V {command}")
    assert done.returncode == 2
    assert done.stderr == b"varshare: error: the current folder is gone; change to one that is there\n"
