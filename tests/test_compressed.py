"""Tensors that are kept in fewer numbers come back as they were."""

import pytest
import torch
from helpers import randn

from varshare_pl.compressed import COMPRESSED_KEY, compress, expand_, weight_bytes


@pytest.fixture
def checkpoint():
    sparse = randn(3, 4, 5, dtype=torch.float32) * (randn(3, 4, 5, seed=1) > 0.5)
    filled = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1).expand(3, 4, 5).clone()
    state = {"a.mu": sparse, "a.log_var": filled, "a.theta": randn(4, 5), "b": torch.zeros(2, 2)}
    return {"state_dict": state, "other": 1}


def test_round_trip_through_a_file(checkpoint, tmp_path):
    small = compress(checkpoint, ["a.mu", "b"], {"a.log_var": torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)})
    assert set(small["state_dict"]) == {"a.theta"}
    torch.save(small, tmp_path / "small.ckpt")
    loaded = torch.load(tmp_path / "small.ckpt", weights_only=True)
    expand_(loaded)
    assert loaded.keys() == checkpoint.keys()
    torch.testing.assert_close(loaded["state_dict"], checkpoint["state_dict"], rtol=0, atol=0)
    assert len(checkpoint["state_dict"]) == 4  # the one given is left as it was


def test_only_entries_that_are_not_0_are_kept(checkpoint):
    kept = compress(checkpoint, ["a.mu"], {})[COMPRESSED_KEY]["a.mu"]
    count = int(checkpoint["state_dict"]["a.mu"].count_nonzero())
    assert 0 < count < 60
    assert len(kept["values"]) == len(kept["indices"]) == count
    assert kept["indices"].dtype is torch.int32
    whole = checkpoint["state_dict"]["a.mu"].flatten().tolist()
    assert [i for i, value in enumerate(whole) if value != 0] == kept["indices"].tolist()
    assert [value for value in whole if value != 0] == kept["values"].tolist()


def test_bytes_are_those_that_are_stored(checkpoint):
    assert weight_bytes(checkpoint, "a.") == 60 * 4 + 60 * 4 + 20 * 8
    small = compress(checkpoint, ["a.mu"], {"a.log_var": torch.ones(3, 1, 1)})
    count = int(checkpoint["state_dict"]["a.mu"].count_nonzero())
    assert weight_bytes(small, "a.") == count * 8 + 3 * 4 + 20 * 8
    assert weight_bytes(small, "b") == 16


def test_what_is_not_compressed_is_left_alone(checkpoint):
    before = dict(checkpoint["state_dict"])
    expand_(checkpoint)
    assert checkpoint["state_dict"] == before
