"""The pages' examples are real: files are written, commands and Python run, in the order in which they stand there."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from varshare_pl.cli.main import main
from varshare_pl.results.files import read_diagnostics, read_heartbeat

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to run in; modules in it can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    known = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def run_page(page: str) -> dict[str, Any]:
    """Do what a page says; gives the names that its Python has defined."""
    names: dict[str, Any] = {}
    for language, title, content in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if title:
            Path(title).write_text(content, encoding="utf-8")
        elif language == "python":
            exec(compile(content, page, "exec"), names)
        elif language == "sh":
            for line in content.splitlines():
                command, *args = shlex.split(line, comments=True)
                assert command == "varshare", line
                assert main(args) == 0, line
        else:
            assert language == "text", f"{page}: a block of {language} is not run"
    return names


@pytest.mark.parametrize("page", ["extending.md", "tutorial.md", "../README.md"])
def test_methods_need_one_import(page):
    blocks = [
        text for _, _, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")) if "SharingMethod" in text
    ]
    assert blocks
    for block in blocks:
        assert set(re.findall(r"(?:from|import) (varshare_pl[\w.]*)", block)) == {"varshare_pl.sharing"}


@pytest.mark.slow(seconds=80)
def test_the_tutorial_runs_as_it_stands(folder):
    names = run_page("tutorial.md")
    assert (folder / "logs" / "complex_cartpole" / "seed_1" / "play.gif").exists()
    assert names["policy"].method == "task_gain"
    assert names["policy"].tasks == ("plain", "strong gravity", "weak motor")
    assert (folder / "weak_motor.pt2").exists()
    scores = (folder / "logs" / "gains" / "report" / "scores.csv").read_text(encoding="utf-8")
    assert all(method in scores for method in ("shared_onehot", "varshare", "task_gain"))
    assert (folder / "logs" / "gains" / "report" / "report.html").exists()


@pytest.mark.slow
def test_the_extensions_run_as_they_stand(folder, drawn):
    run_page("extending.md")
    logs = folder / "logs"
    assert (logs / "corridors" / "seed_1" / "play.gif").exists()
    assert re.fullmatch(
        r"[01]\.\d{4} after \d+ env steps\n", (logs / "watched" / "seed_1" / "sharing.txt").read_text(encoding="utf-8")
    )
    weights = (logs / name / "seed_1" / "heartbeat.csv" for name in ("watched", "corridors"))
    watched, alone = (re.sub(r"[\d.]+,[\d.]+,", "", path.read_text(encoding="utf-8")) for path in weights)
    assert watched.splitlines()[0] == alone.splitlines()[0]
    assert (read_diagnostics(logs / "with_worst" / "seed_1").metric == "train/worst").any()
    penalised, noisy = (read_heartbeat(logs / name / "seed_1") for name in ("low_rank", "noisy"))
    for columns in (penalised, noisy):
        assert (columns["kl/posterior"] > 0).all()
        assert (columns["sharing/ratio"] < 1).all()
    assert np.isnan(penalised["sharing/sigma"]).all()
    assert (noisy["sharing/sigma"] > 0).all()


def test_the_mapping_of_the_suites_page_trains(folder, drawn):
    run_page("suites.md")
    info = (folder / "logs" / "poles" / "seed_1" / "run.json").read_text(encoding="utf-8")
    assert '"suite": "Poles"' in info


def blocks(page: str) -> dict[str, str]:
    """The files that a page has, by name."""
    found = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    return {title: content for _, title, content in found if title}


@pytest.mark.slow
def test_the_landers_fly(folder, drawn):
    pytest.importorskip("Box2D")
    (folder / "landers.yaml").write_text(blocks("extending.md")["landers.yaml"], encoding="utf-8")
    assert main(["fit", "--config", "landers.yaml"]) == 0


def passed_in_a_copy(folder: Path, files: dict[str, str], tests: list[str], name: str) -> int:
    """How many of these tests of a name pass in a copy of the repository with these files."""
    root = DOCS.parent
    for part in ("varshare_pl", "tests", "configs", "benchmarks"):
        shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(root / part, folder)
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, "-k", name]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    return int(re.search(r"(\d+) passed", done.stdout)[1])


@pytest.mark.slow
def test_the_documented_method_has_the_properties_of_all(tmp_path):
    """As the page says: in the package's folder the tests find it by itself."""
    tests = [f"tests/sharing/test_{name}.py" for name in ("properties", "training_properties")]
    method = {"varshare_pl/sharing/lora.py": blocks("extending.md")["lora.py"]}
    assert passed_in_a_copy(tmp_path, method, tests, "lora") > 50


@pytest.mark.slow
def test_the_documented_suite_is_one_file_and_one_entry(tmp_path):
    """No test that finds suites by itself asks for more."""
    suites = (DOCS.parent / "varshare_pl" / "envs" / "suites.py").read_text(encoding="utf-8")
    entry = suites.replace("\nFactory = ", "\nfrom varshare_pl.envs.double_well import double_well\n\nFactory = ")
    entry = entry.replace('    "CartPole": ', '    "DoubleWell": double_well,\n    "CartPole": ')
    files = {
        "varshare_pl/envs/double_well.py": blocks("extending.md")["double_well.py"],
        "varshare_pl/envs/suites.py": entry,
    }
    tests = ["tests/envs", "tests/results/test_anchors.py"]
    assert passed_in_a_copy(tmp_path, files, tests, "DoubleWell or published") >= 5 + 1 + 2 + 11


@pytest.mark.slow
def test_the_policies_page_runs_as_it_stands(folder):
    pytest.importorskip("imageio_ffmpeg")
    sizes = ["--data.total_env_steps", "5120", "--evaluation.episodes", "1"]
    assert main(["fit", "--config", "complex_cartpole", *sizes]) == 0
    Path("policies").symlink_to(DOCS.parent / "policies")
    names = run_page("policies.md")
    assert names["episode_return"] > 0
    assert names["params"].shape == (8, 2)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("best.mp4", "logs", "low_gravity.pt2", "my_policy", "policies")
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
def test_the_python_page_runs_as_it_stands(folder):
    names = run_page("python.md")
    assert names["run"].summary["env_steps"] == names["run"].metrics["env_steps"].max() == 61_440
    assert sorted(names["scores"]["method"].dropna().unique()) == ["shared", "varshare"]
    assert Path(names["best"].best_model_path).is_file()
    assert names["trainer"].callback_metrics["eval/return_mean"] > 0


def test_the_readmes_method_is_the_one_in_the_docs_less_its_option():
    texts = [(DOCS / page).read_text(encoding="utf-8") for page in ("extending.md", "../README.md")]
    layers = [re.search(r"^class TaskBiasLinear.*?\n\n\n", text, re.DOTALL | re.MULTILINE)[0] for text in texts]
    assert layers[0] == layers[1]
