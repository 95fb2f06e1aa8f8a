"""Checkpoints that do not fit are refused in one line, and nothing in them is ever run."""

import os
import pickle
import random
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import fit

from varshare_pl.checkpoints import CHECKPOINT_KEY, check_checkpoint, check_optimizer, read_checkpoint
from varshare_pl.errors import ConfigError
from varshare_pl.sharing import Shared


@pytest.fixture(scope="module")
def run():
    return fit({"total_env_steps": 128})


@pytest.fixture
def saved(run, tmp_path):
    path = tmp_path / "last.ckpt"
    run.trainer.save_checkpoint(path)
    return path


def assert_refused(path, match=""):
    with pytest.raises(ConfigError, match=match) as error:
        read_checkpoint(path)
    text = str(error.value)
    assert text.startswith("--ckpt_path: ")
    assert "\n" not in text


def test_round_trip(run, saved):
    checkpoint = read_checkpoint(saved)
    state = run.module.state_dict()
    assert checkpoint["state_dict"].keys() == state.keys()
    torch.testing.assert_close(dict(checkpoint["state_dict"]), dict(state), rtol=0, atol=0, equal_nan=True)
    run.module.on_load_checkpoint(checkpoint)  # fits itself


def test_missing_file_and_folder(tmp_path):
    assert_refused(tmp_path / "none.ckpt", "is not a file")
    assert_refused(tmp_path, "is not a file")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 100, b"\x80\x02]q\x00e."])
def test_garbage(tmp_path, content):
    path = tmp_path / "garbage.ckpt"
    path.write_bytes(content)
    assert_refused(path, "is not a checkpoint")


def test_random_bytes(tmp_path):
    """Also such as begin like a pickle: the loader raises many kinds of error at them."""
    path, rng = tmp_path / "garbage.ckpt", random.Random(0)
    for k in range(200):
        path.write_bytes((b"\x80\x02" if k % 2 else b"") + rng.randbytes(rng.randrange(1, 60)))
        assert_refused(path, "is not a checkpoint")


def test_cut_and_damaged_files(run, saved):
    """A damaged file is refused, unless the damage hit only padding: then it reads as before."""
    whole, rng, state = saved.read_bytes(), random.Random(0), dict(run.module.state_dict())
    for size in range(0, len(whole), len(whole) // 20):
        saved.write_bytes(whole[:size])
        assert_refused(saved, "damaged")
    for _ in range(20):
        damaged = bytearray(whole)
        start = rng.randrange(len(whole) - 64)
        damaged[start : start + 64] = rng.randbytes(64)
        saved.write_bytes(bytes(damaged))
        with suppress(ConfigError):
            found = dict(read_checkpoint(saved)["state_dict"])
            torch.testing.assert_close(found, state, rtol=0, atol=0, equal_nan=True)


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("archive", [False, True])
def test_a_pickle_with_a_payload_is_refused_and_not_run(saved, archive):
    trace = str(saved.parent / "payload_ran")
    payload = pickle.dumps({CHECKPOINT_KEY: Payload(trace), "state_dict": {}})
    pickle.loads(payload)
    assert Path(trace).exists()  # it would run
    Path(trace).rmdir()
    if archive:
        with zipfile.ZipFile(saved) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(saved, "w") as new:
            for name, part in parts.items():
                new.writestr(name, payload if name.endswith("data.pkl") else part)
    else:
        saved.write_bytes(payload)
    assert_refused(saved, "is not a checkpoint")
    assert not Path(trace).exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(2)])
def test_checkpoints_of_others(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    assert_refused(path, "is not a checkpoint of varshare")


@pytest.mark.parametrize(
    ("data", "model", "match"),
    [
        (
            {"suite": "IdenticalCartPole", "num_envs": 5},
            {"minibatch_size": 32},
            "suite MirroredCartPole.*IdenticalCartPole",
        ),
        ({}, {"sharing": Shared()}, "sharing varshare.*shared"),
        ({}, {"hidden_sizes": (8, 9)}, r"has the shape \(.*8.*\), the config's model \(.*9.*\)"),
        ({}, {"hidden_sizes": (8,)}, "only the checkpoint has the parameter"),
        ({}, {"hidden_sizes": (8, 8, 8)}, "only the config's model has the parameter"),
    ],
)
def test_a_checkpoint_of_another_model_does_not_fit(saved, data, model, match):
    other = fit({"total_env_steps": 128, **data}, **model).module
    before = {name: p.clone() for name, p in other.state_dict().items()}
    with pytest.raises(ConfigError, match=match) as error:
        other.on_load_checkpoint(read_checkpoint(saved))
    assert "\n" not in str(error.value)
    torch.testing.assert_close(dict(other.state_dict()), before, rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_without_our_key_does_not_fit():
    with pytest.raises(ConfigError, match="not a checkpoint of varshare"):
        check_checkpoint({"state_dict": {}}, {"suite": "s"}, {})


def test_the_number_of_tasks_counts():
    checkpoint = {CHECKPOINT_KEY: {"suite": "s", "num_tasks": 2}, "state_dict": {}}
    check_checkpoint(checkpoint, {"suite": "s", "num_tasks": 2}, {})
    with pytest.raises(ConfigError, match="num_tasks 2, the config has 3"):
        check_checkpoint(checkpoint, {"suite": "s", "num_tasks": 3}, {})


def test_an_earlier_versions_optimizer_is_told():
    """A resume would otherwise end in a traceback of torch's."""
    check_optimizer({"optimizer_states": [{"param_groups": [{"params": [0, 1]}, {"params": [2, 3]}]}]})
    with pytest.raises(ConfigError, match="written by an earlier version"):
        check_optimizer({"optimizer_states": [{"param_groups": [{"params": [0]}, {"params": [1]}]}]})
