"""The losses with their derivatives, against the same written for autograd."""

import math

import pytest
import torch
from helpers import randn

from varshare_pl.ppo.losses import clipped_surrogate, squared_error, weighted_losses
from varshare_pl.types import Minibatch

G, R, CLIP = 3, 40, 0.2


def make_batch(dtype=torch.float64):
    """Rows of three tasks; the last rows of one weigh nothing, as padding."""
    weight = randn(G, R, seed=1).abs()
    weight[1, 30:] = 0.0
    rows = {name: randn(G, R, seed=k) for k, name in enumerate(("log_prob", "values", "advantages", "returns"), 2)}
    rows = {name: values.to(dtype) for name, values in rows.items()}
    empty = torch.zeros(G, R)
    return Minibatch(torch.arange(G), obs=empty, actions=empty, weight=weight.to(dtype), **rows)


def make_inputs(dtype=torch.float64):
    log_ratio, entropy, values = 0.3 * randn(G, R, seed=11), randn(G, R, seed=12).abs(), randn(G, R, seed=13)
    return [t.to(dtype).requires_grad_() for t in (log_ratio, entropy, values)]


def by_autograd(log_ratio, entropy, values, batch, clip_range, value_clip_range):
    ratio, weight = log_ratio.exp(), batch.weight
    gain = torch.min(ratio * batch.advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * batch.advantages)
    error = (values - batch.returns) ** 2
    if value_clip_range is not None:
        kept = batch.values + (values - batch.values).clamp(-value_clip_range, value_clip_range)
        error = torch.max(error, (kept - batch.returns) ** 2)
    return -(weight * gain).sum(1), (weight * error).sum(1), (weight * entropy).sum(1)


def results(function, inputs, batch, value_clip_range, seeds):
    outputs = tuple(function(*inputs, batch, CLIP, value_clip_range))
    return [o.detach() for o in outputs], torch.autograd.grad(outputs, inputs, seeds)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("value_clip_range", [None, 0.05, 0.5, 100.0])
def test_values_and_gradients_equal_autograds(value_clip_range, dtype, tolerance):
    batch, inputs = make_batch(dtype), make_inputs(dtype)
    move = (inputs[2] - batch.values).abs()
    if value_clip_range in (0.05, 0.5):
        assert (move > value_clip_range).any()
        assert (move < value_clip_range).any()
    seeds = [randn(G, seed=20 + k).to(dtype) for k in range(3)]
    expected = results(by_autograd, inputs, batch, value_clip_range, seeds)
    found = results(weighted_losses, inputs, batch, value_clip_range, seeds)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert all(not gradient[1, 30:].any() for gradient in found[1])  # padding


@pytest.mark.parametrize("value_clip_range", [None, 0.5])
def test_gradient_by_differences(value_clip_range):
    batch = make_batch()
    assert torch.autograd.gradcheck(lambda *x: weighted_losses(*x, batch, CLIP, value_clip_range), make_inputs())


def test_each_result_has_a_gradient_of_its_own():
    batch, inputs = make_batch(), make_inputs()
    outputs = weighted_losses(*inputs, batch, CLIP, None)
    for k, output in enumerate(outputs):
        gradients = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
        assert [bool(g.any()) for g in gradients] == [k == (0, 2, 1)[i] for i in range(3)]
        again = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_the_batch_and_the_inputs_are_left_alone():
    batch, inputs = make_batch(), make_inputs()
    before = [t.detach().clone() for t in (*inputs, *vars(batch).values()) if t is not None]
    for value_clip_range in (None, 0.5):
        weighted_losses(*inputs, batch, CLIP, value_clip_range).sum().backward()
    after = [t for t in (*inputs, *vars(batch).values()) if t is not None]
    assert all(torch.equal(a.detach(), b) for a, b in zip(after, before, strict=True))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_ties_of_the_surrogate():
    """Inside the range both are equal and the gradient is that of either; without advantage there is none.

    At the edges themselves it is one of the two one-sided derivatives.
    """
    ratio = column(1.0, 0.9, 1.1, 1.0, 3.0, 0.1)
    advantages = column(2.0, 2.0, -2.0, 0.0, 0.0, 0.0)
    loss, derivative = clipped_surrogate(ratio, advantages, CLIP)
    torch.testing.assert_close(loss, -ratio * advantages)
    torch.testing.assert_close(derivative, -ratio * advantages)
    for edge, advantage in ((1.0 + CLIP, 2.0), (1.0 - CLIP, -2.0)):
        _, derivative = clipped_surrogate(column(edge), column(advantage), CLIP)
        assert derivative.item() in (0.0, pytest.approx(-edge * advantage))


def test_ties_of_the_value_error():
    """Inside the range both are equal, outside the errors may be equal with two signs."""
    old, clip_range = column(0.0, 0.0, 0.0, 1.0), 0.5
    values, returns = column(0.25, -0.5, 2.0, 1.0), column(1.0, 1.0, 1.25, 1.0)
    error, derivative = squared_error(values, returns, old, clip_range)
    assert error.tolist() == [0.5625, 2.25, 0.5625, 0.0]
    assert derivative.tolist()[:2] == [-1.5, -3.0]
    assert derivative[2] in (0.0, 1.5)  # 0.75 above the target, or kept at 0.5 and 0.75 below it
    assert derivative[3] == 0.0


@pytest.mark.parametrize("value_clip_range", [None, 0.5])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("field", ["values", "advantages", "returns", "log_ratio", "new values"])
def test_what_is_not_a_number_stays_one(field, bad, value_clip_range):
    """In the loss and in the gradient of its task's row, so that the step is refused; other rows keep theirs.

    A minimum or a comparison would drop it. Infinities give NaN or infinity, or are clipped where PPO clips.
    """
    batch, inputs = make_batch(), make_inputs()
    target = {"log_ratio": inputs[0], "new values": inputs[2]}.get(field)
    with torch.no_grad():
        (getattr(batch, field) if target is None else target)[2, 5] = bad
    seeds = [torch.ones(G).double()] * 3
    (policy, value, entropy), (by_log_ratio, _, by_value) = results(
        weighted_losses, inputs, batch, value_clip_range, seeds
    )
    expected = results(by_autograd, inputs, batch, value_clip_range, seeds)
    of_policy = field in ("advantages", "log_ratio")
    unused = field == "values" and value_clip_range is None  # old values matter to the clipping alone
    loss, gradient, other = (policy, by_log_ratio, value) if of_policy else (value, by_value, policy)
    assert other.isfinite().all()
    assert entropy.isfinite().all()
    assert loss[:2].isfinite().all()
    rest = torch.ones(G, R, dtype=torch.bool)
    rest[2, 5] = False
    assert gradient[rest].isfinite().all()
    if math.isnan(bad):
        assert loss[2].isnan() != unused
        assert gradient[2, 5].isnan() != unused
    index = 0 if of_policy else 1
    torch.testing.assert_close(loss, expected[0][index], equal_nan=True)


def test_a_second_derivative_is_refused_rather_than_wrong():
    inputs = make_inputs()
    value = weighted_losses(*inputs, make_batch(), CLIP, None)[1]
    (gradient,) = torch.autograd.grad(value.square().sum(), inputs[2], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
