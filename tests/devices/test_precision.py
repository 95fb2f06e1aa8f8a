"""Lightning's precisions: acting and update agree, gradients are clipped unscaled, statistics keep their digits."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import METHODS, fit, weights_of
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.ppo.module import PPOModule

SIZES = {"total_env_steps": 2 * 128}
NAMES = ("loss/total", "loss/policy", "loss/value", "loss/entropy", "diagnostics/grad_norm", "kl/policy")


def half(init_scale: float = 2.0**10) -> dict[str, Any]:
    """16-mixed as on a GPU; on the CPU Lightning would take bf16-mixed instead."""
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


PRECISIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "32-true": lambda: {"precision": "32-true"},
    "64-true": lambda: {"precision": "64-true"},
    "bf16-mixed": lambda: {"precision": "bf16-mixed"},
    "16-mixed": half,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", list(PRECISIONS)[1:])
def test_training_in_a_precision(precision: str, method: str) -> None:
    expected = fit(SIZES, sharing=METHODS[method](), trainer=PRECISIONS["32-true"]())
    run = fit(SIZES, sharing=METHODS[method](), trainer=PRECISIONS[precision]())
    assert all(math.isfinite(record.metrics[name]) for record in run.records for name in NAMES)
    assert {p.dtype for p in run.module.parameters()} == {torch.float64 if precision == "64-true" else torch.float32}
    first, reference = run.records[0].metrics, expected.records[0].metrics
    # An act computed in one precision and judged in another would have a ratio off by 1e-3 and more.
    assert first["diagnostics/first_ratio_deviation"] <= 1e-6
    # Random numbers of 64 bits are others, so these episodes are too.
    close = 0.2 if precision == "64-true" else 0.02
    for name in ("loss/value", "diagnostics/grad_norm"):
        assert first[name] == pytest.approx(reference[name], rel=close)


def test_values_and_advantages_keep_their_digits_in_mixed_precision() -> None:
    seen: dict[str, Any] = {}

    class Watch(PPOModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            from varshare_pl.ppo.update import build_rows

            seen["rows"] = build_rows(self.policy, batch, self.options)[0]
            return super().training_step(batch, batch_idx)

    fit(SIZES, trainer=PRECISIONS["bf16-mixed"](), module_class=Watch)
    for name in ("values", "advantages", "returns", "log_prob"):
        assert seen["rows"][name].dtype == torch.float32, name


class Weights(Callback):
    """Keeps the weights at the start and after each rollout."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.weights.append(weights_of(pl_module))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(weights_of(pl_module))


def test_a_step_whose_gradient_overflows_is_skipped() -> None:
    seen = Weights()
    # 4 steps a rollout, each skipped one halves the scale: from 2^100 it does not come down in time.
    run = fit(SIZES, [seen], trainer=half(2.0**100))
    before, *after = seen.weights
    assert all(torch.equal(weights[name], before[name]) for weights in after for name in before)
    assert run.trainer.precision_plugin.scaler.get_scale() == 2.0**92
    assert all(math.isnan(record.metrics["diagnostics/grad_norm"]) for record in run.records)
    assert all(math.isfinite(record.metrics["loss/value"]) for record in run.records)
    # With a scale that does come down the training goes on.
    seen = Weights()
    run = fit(SIZES, [seen], trainer=half(2.0**16))
    assert not torch.equal(seen.weights[-1]["policy.actor.stack.head.theta"], before["policy.actor.stack.head.theta"])
    assert math.isfinite(run.records[-1].metrics["diagnostics/grad_norm"])


def test_a_gradient_that_no_scale_saves_is_a_fault() -> None:
    class Poisoned(PPOModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            batch.rewards[0, 0] = torch.nan
            return super().training_step(batch, batch_idx)

    with pytest.raises(NonFiniteError, match="the gradient of the actor is not finite in rollout 0, gradient step 2"):
        fit(SIZES, trainer=half(2.0), module_class=Poisoned)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_too_few_digits_are_refused(precision: str) -> None:
    with pytest.raises(ConfigError, match=rf"^trainer.precision: {precision} is not allowed") as fault:
        fit(SIZES, trainer={"precision": precision})
    assert "\n" not in str(fault.value)


def test_evaluation_of_a_policy_in_64_bits() -> None:
    run = fit(SIZES, trainer={"precision": "64-true"})
    act = run.module.policy.deterministic()
    assert act(torch.zeros(4, 4), torch.tensor([0, 1, 0, 1])).shape == (4,)
