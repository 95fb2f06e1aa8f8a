"""The kwargs and attributes that a user wrote reach the envs, with their types, by every command that makes envs."""

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from noting_env import Noting

from varshare_pl.cli.main import main
from varshare_pl.cli.variants import check_variant
from varshare_pl.errors import ConfigError
from varshare_pl.trained.policy import load_policy
from varshare_pl.yaml_files import dump, read_yaml, same

KWARGS = r"""
quoted: ["off", "on", "True", "1", "1.0", "08", "010", "0x10", "null", "~", "[1]", "x: y", "# c", "", " b ", "1:40"]
direct_off: "off"
direct_one: "1"
direct_null: "null"
direct_list: "[1]"
direct_mapping: "a: 1"
plain: [off, on, 1, 1.0, 1e3, 0x10, null, 2026-01-01, .nan, -.inf, 日本 😀]
nested: {1: a, 2.5: "2.5", null: [["1", [1]]], "off": {off: "off"}}
lines: "two\nlines\ttab \x85"
date: !!timestamp 2026-01-01
set: !!set {a, b, c, d}
class_path: varshare
sharing: "off"
object: {class_path: torch.nn.Linear, init_args: {in_features: "1"}}
"""
EXPECTED: dict[str, Any] = {
    "quoted": [
        "off",
        "on",
        "True",
        "1",
        "1.0",
        "08",
        "010",
        "0x10",
        "null",
        "~",
        "[1]",
        "x: y",
        "# c",
        "",
        " b ",
        "1:40",
    ],
    "direct_off": "off",
    "direct_one": "1",
    "direct_null": "null",
    "direct_list": "[1]",
    "direct_mapping": "a: 1",
    "plain": [False, True, 1, 1.0, 1000.0, 16, None, "2026-01-01", float("nan"), float("-inf"), "日本 😀"],
    "nested": {1: "a", 2.5: "2.5", None: [["1", [1]]], "off": {False: "off"}},
    "lines": "two\nlines\ttab \x85",
    "date": datetime.date(2026, 1, 1),
    "set": {"a", "b", "c", "d"},
    "class_path": "varshare",
    "sharing": "off",
    "object": {"class_path": "torch.nn.Linear", "init_args": {"in_features": "1"}},
}
SIZES = """
  num_envs: 2
  rollout_steps: 8
  total_env_steps: 32
model: {minibatch_size: 16, hidden_sizes: [4]}
evaluation: {every: 0, episodes: 1}
plots: {enabled: false}
experiment: on
"""


def suite(kwargs: str) -> str:
    indented = kwargs.strip().replace("\n", "\n        ")
    first = f"    - id: noting_env:Noting-v0\n      name: 007\n      kwargs:\n        {indented}\n"
    return f"data:\n  suite:\n{first}    - {{id: 'noting_env:Noting-v0', name: 'no', attributes: {{attribute: 'off'}}}}"


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Noting]:
    """The envs that were made since."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    Noting.made.clear()
    return Noting.made


@pytest.fixture
def run(here: Path) -> Path:
    Path("mine.yaml").write_text(suite(KWARGS) + SIZES, encoding="utf-8")
    assert main(["fit", "--config", "mine.yaml"]) == 0
    return Path("logs/on/seed_1")


def check_made(made: list[Noting], by: str = "fit") -> None:
    first = [env for env in made if env.kwargs]
    assert first, by
    assert all(same(env.kwargs, EXPECTED) for env in first), by
    assert {env.attribute for env in made if not env.kwargs} == {"off"}, by
    made.clear()


def test_every_command_makes_the_envs_that_were_meant(
    run: Path, made: list[Noting], capsys: pytest.CaptureFixture[str]
) -> None:
    check_made(made)
    config, checkpoint = str(run / "config.yaml"), str(run / "checkpoints" / "last.ckpt")
    assert [task["name"] for task in read_yaml(config)["data"]["suite"]] == ["007", "no"]
    assert json.loads((run / "run.json").read_text())["task_names"] == ["007", "no"]

    policy = load_policy(run)
    assert policy.tasks == ("007", "no")
    copied = shutil.copy(checkpoint, "copy.ckpt")  # which has the config as well
    commands: dict[str, Callable[[], Any]] = {
        "load_policy": lambda: load_policy(copied).suite.make_task(1),
        "validate": lambda: main(["validate", "--config", config, "--ckpt_path", checkpoint]),
        "describe": lambda: main(["describe", "--config", config]),
        "play": lambda: main(["play", str(run)]),
        "study": lambda: check_variant(["fit", "--config", "mine.yaml", "--experiment", "on"], [run]),
        "resume": lambda: main(["resume", str(run), "--data.total_env_steps", "48"]),
        "again": lambda: main(["fit", "--config", config, "--experiment", "again", "--logger", "csv"]),
    }
    for name, command in commands.items():
        made.clear()
        command()
        assert "varshare: error" not in capsys.readouterr().err, name
        check_made(made, name)
    again = read_yaml("logs/again/seed_1/config.yaml")["data"]["suite"]
    assert same(again, read_yaml(config)["data"]["suite"])
    assert same(yaml.safe_load(Path("logs/again/seed_1/csv/hparams.yaml").read_text())["data.suite"], again)


@pytest.mark.parametrize("mapping", [False, True])
def test_a_suite_on_the_command_line(mapping: bool, here: Path, made: list[Noting]) -> None:
    Path("mine.yaml").write_text("data:" + SIZES, encoding="utf-8")
    entries = [
        {"id": "noting_env:Noting-v0", "kwargs": EXPECTED},
        {"id": "noting_env:Noting-v0", "attributes": {"attribute": "off"}},
    ]
    given = {"name": "007", "tasks": entries} if mapping else entries
    assert main(["fit", "--config", "mine.yaml", "--data.suite", dump(given, flow=True).replace("'007'", "007")]) == 0
    check_made(made)
    assert same(read_yaml("logs/on/seed_1/config.yaml")["data"]["suite"], given)
    if mapping:
        assert load_policy("logs/on/seed_1").suite.name == "007"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('direct_off: "off"', "direct_off: off"),
        ('direct_one: "1"', "direct_one: 1"),
        ("1.0, 1e3", "1, 1e3"),
        ("007", "7"),
    ],
)
def test_another_suite_is_refused(old: str, new: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values that Python takes for equal, such as 1 and 1.0, are others too."""
    text = suite(KWARGS) + SIZES
    assert old in text
    Path("other.yaml").write_text(text.replace(old, new), encoding="utf-8")
    capsys.readouterr()
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    assert main(["validate", "--config", "other.yaml", "--ckpt_path", checkpoint]) == 2
    err = capsys.readouterr().err
    assert err.startswith("varshare: error: --ckpt_path: the checkpoint's task 0 is (")
    assert "), the config's is (" in err
    assert err.count("\n") == 1
    assert len(err) < 350
    assert main(["fit", "--config", "other.yaml", "--ckpt_path", "last", "--data.total_env_steps", "64"]) == 2
    assert capsys.readouterr().err.startswith("varshare: error: data.suite: ")
    with pytest.raises(ConfigError, match=r"^data\.suite: the study has .*the run in"):
        check_variant(["fit", "--config", "other.yaml"], [run])
    # A run's folder whose config was changed by hand:
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text(encoding="utf-8").replace("direct_off: 'off'", "direct_off: false"),
        encoding="utf-8",
    )
    assert main(["resume", str(run), "--data.total_env_steps", "64"]) == 2
    assert capsys.readouterr().err.startswith("varshare: error: --ckpt_path: the checkpoint's task 0 is (")
