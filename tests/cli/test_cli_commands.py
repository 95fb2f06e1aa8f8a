"""What the commands do: names and merging of configs, the table of validate, help, exit codes of real processes."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from varshare_pl.cli.main import main
from varshare_pl.results.files import read_heartbeat

TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "80"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
TINY += ["--plots.enabled", "false"]


def config_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """The config that a fit with these arguments would have."""
    assert main(["fit", *args, "--print_config"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return yaml.safe_load(out)


def sharing_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, float]]:
    sharing = config_of(args, capsys)["model"]["sharing"]
    return sharing["class_path"].rpartition(".")[2], sharing.get("init_args") or {}


def test_compile_is_one_switch(capsys: pytest.CaptureFixture[str]) -> None:
    assert config_of([], capsys)["model"]["compile"] is False
    assert config_of(["--compile"], capsys)["model"]["compile"] is True


VARSHARE = {
    "prior_scale": 0.1,
    "initial_sigma": 0.5,
    "layers": "all",
    "task_bias": False,
    "absorption": 0.0,
    "task_embedding": 0,
}
BASE = ["--config", "complex_cartpole"]
YAML = "model:\n  sharing: {class_path: varshare, init_args: {prior_scale: 0.3}}\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ("VarShare", VARSHARE)),
        (BASE, ("VarShare", VARSHARE)),
        ([*BASE, "--model.sharing", "shared"], ("Shared", {})),
        ([*BASE, "--model.sharing=shared_onehot"], ("SharedOneHot", {})),
        ([*BASE, "--model.sharing.prior_scale", "0.2"], ("VarShare", {**VARSHARE, "prior_scale": 0.2})),
        ([*BASE, "--model.sharing.init_args.prior_scale", "0.2"], ("VarShare", {**VARSHARE, "prior_scale": 0.2})),
        ([*BASE, "--model.sharing", '{"class_path": "independent"}'], ("Independent", {})),
        ([*BASE, "--config", "my.yaml"], ("VarShare", {**VARSHARE, "prior_scale": 0.3})),
        (
            ["--config=my.yaml", "--model.sharing.initial_sigma=0.4"],
            ("VarShare", {**VARSHARE, "prior_scale": 0.3, "initial_sigma": 0.4}),
        ),
        (["-c", "my.yaml", "-c", "methods/independent"], ("Independent", {})),
        (["--config", "my.yaml", "--config", "configs/methods/shared.yaml"], ("Shared", {})),
        (["--config", "my.yaml", "--model.sharing", "varshare_pl.sharing.Shared"], ("Shared", {})),
    ],
)
def test_sharing_is_merged_without_noise(
    args: list[str], expected: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my.yaml").write_text(YAML)
    assert sharing_of(args, capsys) == expected


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], None),
        (["--model.combiner", "null"], None),
        (["--model.combiner", "pcgrad"], ("PCGrad", {})),
        (["--model.combiner=mgda", "--model.combiner.max_iters=7"], ("MGDA", {"epsilon": 1e-3, "max_iters": 7})),
        (["--config", "my.yaml"], ("CAGrad", {"c": 0.2, "norm_eps": 1e-4})),
        (["--config", "my.yaml", "--model.combiner", "null"], None),
        (["--model.combiner", "varshare_pl.combiners.grad_norm.GradNorm"], None),
    ],
)
def test_combiner(args: list[str], expected: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my.yaml").write_text("model:\n  combiner: {class_path: cagrad, init_args: {c: 0.2}}\n")
    found = config_of([*BASE, *args], capsys)["model"]["combiner"]
    if "GradNorm" in str(args):
        assert found["init_args"]["alpha"] == 1.5
    else:
        given = found and (found["class_path"].rpartition(".")[2], found.get("init_args") or {})
        assert given == expected


def test_a_run_with_a_combiner(here: Path, capsys: pytest.CaptureFixture[str], drawn: dict[str, Any]) -> None:
    """Has the combiner in its name, a heat map, and goes on after its end."""
    combined = ["--config", "complex_cartpole", "--model.combiner", "famo", "--model.cosine_every", "1"]
    sizes = [item for item in TINY if item not in ("--plots.enabled", "false")]
    assert main(["fit", *combined, *sizes]) == 0
    run = here / "logs" / "complex_cartpole_famo" / "seed_1"
    assert "cosine" in drawn
    assert len(read_heartbeat(run)["gradients/cosine"]) > 0
    steps = yaml.safe_load((run / "config.yaml").read_text())["data"]["total_env_steps"]
    assert main(["resume", str(run), "--data.total_env_steps", str(2 * steps), "--plots.enabled", "false"]) == 0
    assert "combiner" not in capsys.readouterr().err
    assert main(["resume", str(run), "--data.total_env_steps", str(3 * steps), "--model.combiner", "null"]) != 0
    assert "model.combiner" in capsys.readouterr().err


def test_print_config_given_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = config_of([*BASE, *TINY, "--model.sharing.prior_scale", "0.2"], capsys)
    assert "seed" not in printed["data"]
    assert not {"seed", "spec"} & set(printed["model"])
    (here / "printed.yaml").write_text(yaml.safe_dump(printed))
    assert main(["fit", "--config", "printed.yaml", "--experiment", "x"]) == 0
    assert capsys.readouterr().err == ""
    saved = yaml.safe_load((here / "logs" / "x" / "seed_1" / "config.yaml").read_text())
    assert {**saved, "experiment": None} == printed


def test_saved_config_with_another_seed(tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--config", str(tiny_run / "config.yaml"), "--logs_dir", "again", "--plots.enabled", "false"]
    assert main(["fit", *args]) == 0
    assert main(["fit", *args, "--seed_everything", "2"]) == 0
    assert capsys.readouterr().err == ""
    first, again, other = (
        read_heartbeat(run)["loss/total"]
        for run in (tiny_run, here / "again" / "tiny" / "seed_1", here / "again" / "tiny" / "seed_2")
    )
    assert (first == again).all()
    assert (first != other).any()


def test_overwrite(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TINY, "--experiment", "x"]) == 0
    assert main(["fit", *TINY, "--experiment", "x", "--data.total_env_steps", "40", "--overwrite"]) == 0
    run = here / "logs" / "x" / "seed_1"
    assert len(read_heartbeat(run)["env_steps"]) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["overwrite"] is False
    assert capsys.readouterr().err == ""


def test_validate_prints_the_final_evaluation_and_writes_nothing(
    tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in tiny_run.rglob("*"))
    args = ["--config", str(tiny_run / "config.yaml"), "--ckpt_path", str(tiny_run / "checkpoints" / "last.ckpt")]
    assert main(["validate", *args]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    final = json.loads((tiny_run / "summary.json").read_text())["final"]
    rows = [line for line in out.splitlines() if re.match(r"\d ", line)]
    assert len(rows) == 5
    for row, value, name in zip(
        rows, final["return_per_task"], ("baseline", "short", "long", "low", "tight"), strict=True
    ):
        assert name in row
        assert f" {value:.1f} " in row
    assert f" {final['return_mean']:.1f} " in out
    assert sorted((path, path.stat().st_mtime_ns) for path in tiny_run.rglob("*")) == before
    assert list(here.iterdir()) == []


def test_numbers_are_of_pythons_own_types() -> None:
    from jsonargparse.typing import PositiveFloat, PositiveInt

    from varshare_pl.cli.parser import plain

    values = plain([PositiveFloat(0.5), PositiveInt(3), True, None, "x", (PositiveInt(2),)])
    assert values == [0.5, 3, True, None, "x", (2,)]
    assert [type(value) for value in values] == [float, int, bool, type(None), str, tuple]
    assert type(values[-1][0]) is int


def test_checkpoints_hold_plain_values(tiny_run: Path) -> None:
    for path in (tiny_run / "checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)  # raises for any class
        rates = [group["lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]]
        assert {type(rate) for rate in rates} == {float}


def test_info_metrics_of_an_env_are_accepted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "offers.py").write_text(
        "import gymnasium\n"
        "class Env(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(0, 1, (2,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return self.observation_space.low, {}\n"
        "    def step(self, action):\n"
        "        return self.observation_space.low + 0, 1.0, True, False, {'success': 1.0}\n"
        "gymnasium.register('Offers-v0', Env)\n"
    )
    suite = ["--data.suite", '[{"id": "offers:Offers-v0"}, {"id": "Offers-v0", "name": "b"}]', "--experiment", "x"]
    assert main(["fit", *TINY, *suite, "--data.info_metrics", "[succes]"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("varshare: error: data.info_metrics: 'succes' is not in")
    assert "it has: success" in err
    assert main(["fit", *TINY, *suite, "--data.info_metrics", "[success]", "--overwrite"]) == 0


def test_a_run_leaves_no_trace_in_its_process(here: Path) -> None:
    def state() -> tuple[Any, ...]:
        levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
        variables = {name: value for name, value in os.environ.items() if name.startswith("PL_")}
        return (
            levels,
            variables,
            warnings.filters[:],
            torch.get_num_threads(),
            signal.getsignal(signal.SIGINT),
            sys.path,
        )

    before = state()
    assert main(["fit", *TINY, "--threads", "2"]) == 0
    assert state() == before
    assert main(["fit", *TINY]) == 2
    assert state() == before


OURS = r"model|data|evaluation|plots|progress|checkpoint"


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_help_explains_every_option_of_ours(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: varshare {command} --config NAME_OR_FILE")
    flags = re.findall(rf"^  --((?:{OURS})\.\w+)", out, re.MULTILINE)
    assert len(flags) > 35
    # "-c CONFIG, --config CONFIG", and "-c, --config CONFIG" from Python 3.13 on
    singles = {"config", "seed_everything", "experiment", "logs_dir", "overwrite", "threads"}
    assert singles <= set(re.findall(r"^  (?:-c(?: CONFIG)?, )?--(\w+)", out, re.MULTILINE))
    for flag in [*flags, *singles]:
        start = rf"^  (?:-c(?: CONFIG)?, )?--{re.escape(flag)}[ ,]"
        entry = re.search(rf"{start}.*?(?=^  -|^\S|\Z)", out, re.MULTILINE | re.DOTALL)
        assert entry is not None, flag
        words = re.sub(r"\((?:[^()]|\([^()]*\))*default: .*", "", entry[0].replace("\n", " ")).split(maxsplit=2)
        assert len(words) == 3, f"{flag} has no help text"
        assert len(words[2].strip()) > 7, flag
    for noise in (
        "jsonargparse",
        "known subclasses",
        "Linked",
        "Union[",
        "Literal",
        "model.spec",
        "model.seed",
        "data.seed",
    ):
        assert noise not in out
    assert len(out.splitlines()) < 330
    assert "--ckpt_path" in out
    assert ("--init_from" in out) == (command == "fit")


def test_help_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model.sharing.help", "varshare"]) == 0
    assert "--model.sharing.prior_scale" in capsys.readouterr().out


def process(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


def test_fit_as_a_process(here: Path) -> None:
    done = process(sys.executable, "-m", "varshare_pl", "fit", "--config", "complex_cartpole", *TINY, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "results: logs/complex_cartpole/seed_1"
    assert done.stdout.count("episodes  solved") == 1  # one table; Lightning's validation does not run within a fit


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["train"], ["train is not a command"]),
        (["fit", "--config", "complex_cartpol"], ["--config: complex_cartpol", "did you mean complex_cartpole?"]),
        (["fit", "--data.num_envs", "-3"], ["data.num_envs: -3 is not allowed; a positive integer is"]),
        (["plot", "nowhere"], ["nowhere is not a folder"]),
    ],
)
def test_errors_of_the_installed_command(args: list[str], parts: list[str], here: Path) -> None:
    done = process(str(Path(sys.executable).with_name("varshare")), *args, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("varshare: error: ")
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts)
    assert list(here.iterdir()) == []


def test_ctrl_c(here: Path) -> None:
    command = [sys.executable, "-m", "varshare_pl", "fit", *TINY[:4], "--data.total_env_steps", "9999999"]
    command += ["--model.minibatch_size", "40", "--experiment", "x", "--plots.enabled", "false"]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        heartbeat = here / "logs" / "x" / "seed_1" / "heartbeat.csv"
        deadline = time.monotonic() + 60
        while not (heartbeat.exists() and len(heartbeat.read_text().splitlines()) > 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "varshare: stopped by SIGINT; go on with: varshare resume logs/x/seed_1"
    assert len(err.split("\n")) <= 4
    assert "results" not in out


@pytest.mark.parametrize(("args", "code"), [(["--help"], 0), (["--version"], 0), ([], 2), (["plot", "--help"], 0)])
def test_light_commands_import_neither_torch_nor_lightning(args: list[str], code: int, here: Path) -> None:
    script = f"""
import sys
from varshare_pl.cli.main import main
code = main({args!r})
heavy = [name for name in ("torch", "lightning", "jsonargparse", "matplotlib") if name in sys.modules]
sys.exit(str(heavy) if heavy else code)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert "varshare" in done.stdout
