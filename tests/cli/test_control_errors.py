"""What is wrong with a control task, or with its env, ends in one line that names it."""

import json
from pathlib import Path
from typing import Any

import odd_control_env  # noqa: F401  # workers find it by the path that they have from here
import pytest

from varshare_pl.cli.main import main

ID = "odd_control_env:OddControl-v0"
TINY = ["--data.num_envs", "2", "--data.rollout_steps", "8", "--data.total_env_steps", "32"]
TINY += ["--model.minibatch_size", "16", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
TINY += ["--plots.enabled", "false", "--experiment", "x"]
WORKER = ["--data.backend", "workers", "--data.num_workers", "1"]
TANH = ["--model.action_bounds", "tanh"]


def task(**kwargs: str) -> dict[str, Any]:
    return {"id": ID, "kwargs": kwargs, "name": str(kwargs)}


def suite(*tasks: dict[str, Any], **more: Any) -> list[str]:
    return ["--data.suite", json.dumps({"name": "S", "tasks": list(tasks) or [task()], **more})]


def told(*args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of a fit, and its last line of errors."""
    code = main(["fit", *TINY, *args])
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning: " not in line]
    assert len(lines) == 1, lines
    return code, lines[0]


REFUSED = [
    (suite(wrappers=["no_module.Wrap"]), "suite.wrappers[0]: 'no_module.Wrap' cannot be imported: No module named"),
    (suite(wrappers=["json.JSONDecoder"]), "'json.JSONDecoder' is not allowed; a subclass of gymnasium.Wrapper is"),
    (
        suite(wrappers=[{"gymnasium.wrappers.ClipReward": {"nope": 1}}]),
        "gymnasium.wrappers.ClipReward with {'nope': 1} raised TypeError",
    ),
    (suite(success={"info": "success", "reduce": "median"}), "reduce='median': allowed: any, last, max, mean"),
    (suite(task(), task(actions="three")), "suite[1]: acts in Box(-1.0, 1.0, (3,), float32), suite[0] in Box"),
    (suite(task(), task(actions="discrete"), pad=True), "suite[1]: acts in Discrete(4), suite[0] in Box"),
    (suite(task(actions="dict")), "acts in Dict("),
    (
        [*suite(task(actions="unbounded")), *TANH],
        "model.action_bounds: tanh is not allowed with the action space Box(-inf",
    ),
    (
        [*suite(task(actions="half-bounded")), *TANH],
        "model.action_bounds: tanh is not allowed with the action space Box(0",
    ),
    (
        suite(anchors={"low": [0, 1, 2], "high": 5}),
        "suite.anchors.low=[0, 1, 2]: must be a finite number, or 1, one a task",
    ),
    (
        ["--data.suite", "{name: MetaWorld, benchmark: MT11}"],
        "suite.benchmark='MT11': allowed: MT3, MT5-fast, MT10, MT50",
    ),
    (["--data.suite", "MetaWorldMT10"], "suite='MetaWorldMT10': unknown (did you mean 'MetaWorld'?)"),
    (["--data.suite", "{name: MetaWorld, horizon: 0}"], "suite.horizon: 0 is not allowed; an integer from 1 to 500 is"),
    (
        ["--data.suite", "{name: CheetahFamily, horizon: 0}"],
        "suite.horizon: 0 is not allowed; an integer of at least 1",
    ),
    (
        ["--data.suite", '[{"id": "varshare_pl/MetaWorld-v3", "kwargs": {"task": "fly"}}]'],
        "suite[0].kwargs.task: 'fly' is not allowed; allowed: assembly",
    ),
]


@pytest.mark.parametrize(("args", "part"), REFUSED, ids=[part[:40] for _, part in REFUSED])
def test_refused_before_anything_is_written(
    args: list[str], part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = told(*args, capsys=capsys)
    assert code == 2
    assert part in line
    assert list(here.iterdir()) == []


AT_STEP_3 = "at step 3 of its episode"
FAULTS = [
    ([*suite(task(fault="make")), *WORKER], "while it was made raised RuntimeError: no robot here"),
    ([*suite(task(fault="raise")), *WORKER], f"{AT_STEP_3} raised RuntimeError: the motor is off"),
    (suite(task(fault="nan")), f"{AT_STEP_3} gave an observation that is not finite in float32"),
    (suite(task(fault="shape")), f"{AT_STEP_3} gave an observation of shape (3,); (2,) is its space's"),
    (suite(task(fault="text")), f"{AT_STEP_3} gave the observation array(['a', 'b'], dtype='<U1')"),
    (suite(task(fault="reward")), f"{AT_STEP_3} gave the reward nan; a finite number of float32 is allowed"),
    (suite(success={"info": "won"}), "success.info: 'won' is in no info of the 1 episodes of task"),
    ([*suite(), "--model.log_std_init", "1000"], "not finite"),
]


@pytest.mark.parametrize(("args", "part"), FAULTS, ids=[part[:40] for _, part in FAULTS])
@pytest.mark.filterwarnings("ignore:success")
def test_a_fault_of_an_env_or_a_policy(
    args: list[str], part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = told(*args, capsys=capsys)
    assert code == 1
    assert part in line


def test_many_tasks_and_more_workers_than_envs(here: Path) -> None:
    tasks = [{"id": "CartPole-v1", "name": f"{k}"} for k in range(200)]
    short = ["--evaluation.max_episode_steps", "2", "--data.total_env_steps", "16"]
    assert main(["fit", *TINY, *suite(*tasks), *short]) == 0
    workers = ["--data.backend", "workers", "--data.num_workers", "5", "--overwrite", "true"]
    assert main(["fit", *TINY, *suite(), *workers]) == 0
