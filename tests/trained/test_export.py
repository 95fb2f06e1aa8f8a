"""The exported policy of one task: the same as the policy, in a process that has torch only."""

import subprocess
import sys

import pytest
import torch
from helpers import ALL_METHODS, make_policy, perturb, randn

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.trained.policy import TrainedPolicy

SUITE = "MirroredCartPole"


def trained(method="varshare", **options):
    policy = make_policy(SUITE, ALL_METHODS[method](**options))
    perturb(policy)
    return TrainedPolicy(policy, get_suite(SUITE), method, 0)


@pytest.mark.parametrize(("method", "task"), [("varshare", 0), *((name, "swapped actions") for name in ALL_METHODS)])
def test_every_method_is_exported_as_it_is(method, task, tmp_path):
    policy = trained(method)
    path = policy.export(tmp_path / f"{task}.pt2", task)
    module = torch.export.load(path).module()
    for rows in (1, 2, 33):
        obs = randn(rows, 4, seed=rows, dtype=torch.float32)
        actions, params = module(obs)
        ids = torch.full((rows,), policy.task_id(task))
        # Another route: the network's own forward over rows of mixed tasks.
        torch.testing.assert_close(params, policy.policy.actor(obs, ids), rtol=0, atol=2e-6)
        assert torch.equal(actions, policy(obs, task))
        assert not params.requires_grad


def test_it_runs_where_varshare_is_not(tmp_path):
    policy, obs = trained(), randn(9, 4, dtype=torch.float32)
    policy.export(tmp_path / "policy.pt2", 1)
    torch.save(obs, tmp_path / "obs.pt")
    code = "import sys; sys.modules['varshare_pl'] = None; import torch; m = torch.export.load('policy.pt2').module();"
    code += "print(m(torch.load('obs.pt', weights_only=True))[0].tolist())"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout == f"{policy(obs, 1).tolist()}\n"


def test_it_holds_the_weights_of_its_task_alone(tmp_path):
    policy = trained()
    exported = torch.export.load(policy.export(tmp_path / "policy.pt2", 1))
    layer = policy.policy.actor.stack["layer_1"]
    weights = list(exported.state_dict.values())
    assert sum(tensor.numel() for tensor in weights) == (4 + 1) * 8 + (8 + 1) * 8 + (8 + 1) * 2
    assert any(torch.equal(tensor[0], layer.theta + layer.mu[1]) for tensor in weights if tensor.dim() == 3)
    assert not exported.constants


def test_no_file_is_replaced_unasked(tmp_path):
    policy, path = trained(), tmp_path / "policy.pt2"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"path: .*policy\.pt2 exists; give another one, or overwrite=True"):
        policy.export(path, 0)
    assert path.read_text() == "mine"
    policy.export(path, 0, overwrite=True)
    assert torch.export.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["policy.pt2"]
    with pytest.raises(ConfigError, match=r"path: .*policy\.onnx is not allowed; a file that ends in \.pt2 is"):
        policy.export(tmp_path / "policy.onnx", 0)
    with pytest.raises(ConfigError, match="task: 2 is not allowed; 0 to 1 or"):
        policy.export(tmp_path / "other.pt2", 2)
