"""``varshare prune``: checkpoints that are smaller and load wherever a checkpoint does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.cli.main import main
from varshare_pl.trained.policy import load_policy

SMALL = ["--data.suite", "MirroredCartPole", "--data.num_envs", "4", "--data.rollout_steps", "32"]
SMALL += ["--model.hidden_sizes", "[8]", "--model.minibatch_size", "64", "--evaluation.episodes", "2"]


def fit(logs: Path, *options: str, name: str = "x") -> Path:
    length = ["--data.total_env_steps", "256", "--plots.enabled", "false"]
    assert main(["fit", *SMALL, *length, *options, "--logs_dir", str(logs), "--experiment", name]) == 0
    return logs / name / "seed_1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fit(tmp_path_factory.mktemp("run"))
    assert main(["prune", str(run), "--threshold", "0.2", "0", "1e9"]) == 0
    return run


@pytest.fixture(scope="module")
def report(run: Path) -> dict:
    return json.loads((run / "pruned" / "prune.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(list(args)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def validated(run: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> list[float]:
    capsys.readouterr()
    assert main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [float(line.split()[-4]) for line in lines if line[0] in "01"]


def test_the_report_is_true(run: Path, report: dict, capsys: pytest.CaptureFixture[str]) -> None:
    thresholds = [one["threshold"] for one in report["pruned"]]
    assert thresholds == [0.0, 0.2, 1e9]
    assert {path.name for path in (run / "pruned").iterdir()} == {"prune.json", *(o["file"] for o in report["pruned"])}
    last = run / "checkpoints" / "last.ckpt"
    before = report["before"]
    assert before["file_bytes"] == last.stat().st_size
    assert validated(run, last, capsys) == pytest.approx(before["return_per_task"], abs=0.06)
    zero, some, all_ = report["pruned"]
    assert zero["return_per_task"] == pytest.approx(before["return_per_task"])  # the same function
    for one in report["pruned"]:
        path = run / "pruned" / one["file"]
        assert one["file_bytes"] == path.stat().st_size < before["file_bytes"]
        assert validated(run, path, capsys) == pytest.approx(one["return_per_task"], abs=0.06)
        raw = torch.load(path, weights_only=True)
        residuals = {n: t for n, t in read_checkpoint(path)["state_dict"].items() if n.endswith(".mu")}
        assert not raw["state_dict"].keys() & residuals.keys()
        assert "optimizer_states" not in raw
        for name, share in one["sparsity_per_layer"].items():
            assert share == pytest.approx((residuals[f"{name}.mu"] == 0).double().mean().item())
    assert zero["sparsity"] == 0.0 < some["sparsity"] < all_["sparsity"] == 1.0
    assert zero["weight_bytes"] > some["weight_bytes"] > all_["weight_bytes"]
    assert all_["return_per_task"] == pytest.approx(
        json.loads((run / "summary.json").read_text())["shared_only_return_per_task"]
    )


def test_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tmp_path)
    capsys.readouterr()
    assert main(["prune", str(run), "--threshold", "1"]) == 0
    out = capsys.readouterr().out
    assert "actor    layer_1" in out
    assert "swapped actions" in out
    assert out.splitlines()[-1] == f"written: {run / 'pruned'}"


def test_the_weights_are_those_of_the_checkpoint_where_they_are_left(run: Path) -> None:
    whole = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    state = read_checkpoint(run / "pruned" / "threshold_0.2.ckpt")["state_dict"]
    assert state.keys() == whole.keys()
    sizes = []
    for name in (name for name in whole if name.endswith(".mu")):
        theta = name.removesuffix("mu") + "theta"
        before, after = (values[theta] + values[name] for values in (whole, state))
        left = state[name] != 0
        torch.testing.assert_close(after[left], before[left])
        sizes.append(left.double().mean().item())
        variance = whole[name.removesuffix("mu") + "log_var"].exp().flatten(1).mean(1)
        found = state[name.removesuffix("mu") + "log_var"].exp().flatten(1)
        np.testing.assert_allclose(found.mean(1), variance, rtol=1e-5)
        assert (found == found[:, :1]).all()
    assert min(sizes) < 0.5 < max(sizes)  # so the threshold did something, and not everything


def test_a_new_run_starts_from_it(run: Path, tmp_path: Path) -> None:
    path = run / "pruned" / "threshold_1000000000.ckpt"
    tiny = ["--init_from", str(path), "--model.lr_actor", "1e-12", "--model.lr_critic", "1e-12"]
    second = read_checkpoint(fit(tmp_path, *tiny) / "checkpoints" / "last.ckpt")["state_dict"]
    for name, value in read_checkpoint(path)["state_dict"].items():
        if name.startswith("policy.") and "moments" not in name:
            torch.testing.assert_close(value, second[name], rtol=0, atol=1e-6)
    name = "policy.observation_moments.count"
    assert second[name] == 2 * read_checkpoint(path)["state_dict"][name] == 512  # which go on


def test_load_policy_takes_it(run: Path) -> None:
    whole, pruned = load_policy(run), load_policy(run / "pruned" / "threshold_0.ckpt")
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    tasks = torch.arange(50) % 2
    torch.testing.assert_close(
        pruned.action_params(torch.from_numpy(obs), tasks), whole.action_params(torch.from_numpy(obs), tasks)
    )
    none = load_policy(run / "pruned" / "threshold_1000000000.ckpt")  # every task has the same network
    first, second = (none.action_params(torch.from_numpy(obs), torch.full((50,), m)) for m in (0, 1))
    assert torch.equal(first, second)


def test_a_run_cannot_be_resumed_from_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "pruned" / "threshold_0.ckpt"
    args = ["--config", str(run / "config.yaml"), "--ckpt_path", str(path), "--data.total_env_steps", "512"]
    assert "has no optimizer state to go on with; --init_from" in error_of(capsys, "fit", *args)
    assert "is pruned already" in error_of(
        capsys, "prune", str(run), "--threshold", "1", "--overwrite", "--ckpt_path", str(path)
    )


def test_nothing_is_replaced_unasked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (run / "pruned").iterdir()}
    assert "--overwrite replaces it" in error_of(capsys, "prune", str(run), "--threshold", "3")
    assert {path: path.read_bytes() for path in (run / "pruned").iterdir()} == before


def test_overwrite(tmp_path: Path) -> None:
    run = fit(tmp_path, "--model.sharing", "varshare_learned_prior")
    assert main(["prune", str(run), "--threshold", "1"]) == 0
    assert main(["prune", str(run), "--threshold", "2.5", "--overwrite"]) == 0
    assert {path.name for path in (run / "pruned").iterdir()} == {"prune.json", "threshold_2.5.ckpt"}


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ([], "the following arguments are required: RUN, --threshold"),
        (["{run}"], "--threshold"),
        (["{run}", "--threshold", "x"], "invalid float value: 'x'"),
        (["{run}", "--threshold", "-1"], "--threshold"),
        (["{run}", "--threshold", "nan"], "--threshold: nan is not allowed; numbers of at least 0 are"),
        (["{run}/none", "--threshold", "1"], "is not the folder of a run"),
        (["{run}", "--threshold", "1", "--ckpt_path", "none.ckpt", "--overwrite"], "none.ckpt is not a file"),
    ],
)
def test_mistakes_end_in_one_line(run: Path, capsys: pytest.CaptureFixture[str], args: list[str], match: str) -> None:
    assert match in error_of(capsys, "prune", *(arg.format(run=run) for arg in args))


@pytest.mark.parametrize("options", [["shared"], ["varshare_deterministic"], ["varshare_low_rank"]])
def test_methods_without_uncertain_residuals_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    run = fit(tmp_path, "--model.sharing", *options)
    assert "have no residuals with a σ per weight" in error_of(capsys, "prune", str(run), "--threshold", "1")
    assert not (run / "pruned").exists()
