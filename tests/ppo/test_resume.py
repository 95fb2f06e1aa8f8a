"""A run that is stopped and resumed ends with the bits of one that was not."""

import pytest
import torch
from helpers import METHODS, fit
from stopping import StopAfter


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "data", [{}, {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}], ids=["fixed", "cycle"]
)
def test_resumed_equals_uninterrupted(method, data, tmp_path):
    data = {"total_env_steps": 4 * 128, **data}
    whole = fit(data, sharing=METHODS[method]())
    path = tmp_path / "stopped.ckpt"
    first = fit(data, [StopAfter(2, path)], sharing=METHODS[method]())
    assert len(first.records) == 2
    torch.manual_seed(77)  # nothing hangs on the global generator
    rest = fit(data, sharing=METHODS[method](), ckpt_path=path)
    assert [r.env_steps for r in first.records + rest.records] == [r.env_steps for r in whole.records]
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0, equal_nan=True)
    timing = {"wall_time_s", "sps"}
    for a, b in zip(first.records + rest.records, whole.records, strict=True):
        assert {k: v for k, v in a.metrics.items() if k not in timing} == pytest.approx(
            {k: v for k, v in b.metrics.items() if k not in timing}, rel=0, abs=0, nan_ok=True
        )


def test_another_number_of_processes_is_told(tmp_path):
    path = tmp_path / "stopped.ckpt"
    fit({"total_env_steps": 4 * 128}, [StopAfter(2, path)])
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["RolloutDataModule"]["processes"] = 2
    torch.save(checkpoint, path)
    with pytest.warns(UserWarning, match="resume is not exact: 2 processes wrote the checkpoint, 1 go on"):
        rest = fit({"total_env_steps": 4 * 128}, ckpt_path=path)
    assert [record.env_steps for record in rest.records] == [384, 512]
