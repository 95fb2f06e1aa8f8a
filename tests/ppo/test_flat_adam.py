"""Adam over one vector, against torch's over many tensors; and the views that make it one vector."""

import copy
import io

import pytest
import torch
from helpers import METHODS, make_policy, perturb, randn, weights_of

from varshare_pl.learning.optimizer import FlatAdam, anneal, build_optimizer
from varshare_pl.ppo import optimizer as optimizer_module

ARGS = {"lr_actor": 1e-3, "lr_critic": 2e-3, "lr_log_var": 7e-3, "eps": 1e-5, "eps_log_var": 1e-8}


def make(method="varshare", dtype=torch.float32, frozen=()):
    policy = make_policy("MirroredCartPole", METHODS[method]()).to(dtype)
    perturb(policy)
    for name in frozen:
        policy.get_parameter(name).requires_grad_(False)
    return policy, build_optimizer(policy, **ARGS)


def set_gradients(policy, step):
    """Of all sizes, down to those that Adam's epsilon drowns."""
    for k, parameter in enumerate(policy.parameters()):
        if parameter.requires_grad:
            size = 10.0 ** -(2 * ((k + step) % 5))
            parameter.grad.copy_(size * randn(*parameter.shape, seed=100 * step + k))


def plain_adam(policy, **options):
    """torch's Adam over the separate tensors, with the groups as they are meant."""
    groups = []
    for name, torso in policy.networks():
        lr = ARGS[f"lr_{name}"]
        others = [p for n, p in torso.named_parameters() if not n.endswith("log_var")]
        groups.append({"params": others, "lr": lr, "eps": 1e-5})
        if log_vars := [p for n, p in torso.named_parameters() if n.endswith("log_var")]:
            groups.append({"params": log_vars, "lr": 7e-3, "eps": 1e-8})
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, **options)


def assert_tied(policy, optimizer):
    """Values and gradients fill one vector each, and the optimizer's group vectors are pieces of them."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    size = optimizer.gradient.element_size()
    for group in optimizer.param_groups:
        (vector,) = group["params"]
        here = [p for p in parameters if 0 <= p.data_ptr() - vector.data_ptr() < vector.numel() * size]
        assert sum(p.numel() for p in here) == vector.numel()
        for parameter in here:
            start = (parameter.data_ptr() - vector.data_ptr()) // size
            piece = slice(start, start + parameter.numel())
            assert torch.equal(vector.detach()[piece], parameter.detach().flatten())
            assert vector.grad[piece].data_ptr() == parameter.grad.data_ptr()
        parameters = [p for p in parameters if all(p is not q for q in here)]
    assert not parameters
    assert optimizer.gradient.numel() == sum(p.numel() for p in policy.parameters() if p.requires_grad)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-7), (torch.float64, 1e-13)])
@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_equal_torchs_adam(method, dtype, tolerance):
    """To the last digit: what stands at a vector's end may be rounded otherwise than what stands in its middle."""
    policy, optimizer = make(method, dtype)
    reference = make(method, dtype)[0]
    adam = plain_adam(reference, fused=True)
    start = weights_of(policy)
    for step in range(50):
        for adapted in (optimizer, adam):
            anneal(adapted, 1.0 - step / 60)
        set_gradients(policy, step)
        for ours, plain in zip(policy.parameters(), reference.parameters(), strict=True):
            plain.grad = ours.grad.clone()
        optimizer.advance()
        adam.step()
    for (name, ours), plain in zip(policy.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=10 * tolerance, atol=tolerance)
        assert (ours - start[name]).abs().max() > 1e-3
    assert_tied(policy, optimizer)


def test_advance_equals_step_and_fused_equals_plain():
    policies = [make() for _ in range(4)]
    for step in range(10):
        for policy, _ in policies:
            set_gradients(policy, step)
        policies[0][1].advance()
        policies[1][1].step()
        plain = policies[2] if step else (policies[2][0], plain_adam(policies[2][0], foreach=False))
        policies[2] = plain
        plain[1].step()
    weights = [weights_of(policy) for policy, _ in policies]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
        torch.testing.assert_close(value, weights[2][name], rtol=1e-6, atol=1e-7)
        assert not torch.equal(value, weights[3][name])  # that of no step


def test_a_device_without_the_fused_kernel(monkeypatch):
    fused, optimizer = make()
    monkeypatch.setattr(optimizer_module, "FUSED_DEVICES", ())
    plain, other = make()
    assert [group["fused"] for group in optimizer.param_groups + other.param_groups] == [True] * 4 + [False] * 4
    for step in range(10):
        for policy, adam in ((fused, optimizer), (plain, other)):
            set_gradients(policy, step)
            adam.advance()
    torch.testing.assert_close(weights_of(plain), weights_of(fused), rtol=1e-6, atol=1e-7)


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_state_that_was_saved_goes_on_the_same():
    policy, optimizer = make()
    for step in range(5):
        set_gradients(policy, step)
        optimizer.advance()
    anneal(optimizer, 0.5)
    weights, state = saved(policy.state_dict()), saved(optimizer.state_dict())
    other, resumed = make()
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    resumed.tie()
    assert_tied(other, resumed)
    assert [g["name"] for g in resumed.param_groups] == ["actor", "actor_log_var", "critic", "critic_log_var"]
    for step in range(5, 10):
        for trained, adam in ((policy, optimizer), (other, resumed)):
            set_gradients(trained, step)
            adam.advance()
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), other.parameters(), strict=True))
    for mine, its in zip(optimizer.state.values(), resumed.state.values(), strict=True):
        assert mine["step"] == its["step"] == 10
        assert torch.equal(mine["exp_avg"], its["exp_avg"])


def test_a_new_optimizer_changes_no_value_and_starts_at_zero():
    policy = make_policy("MirroredCartPole")
    perturb(policy)
    before = weights_of(policy)
    optimizer = build_optimizer(policy, **ARGS)
    assert_tied(policy, optimizer)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    assert not optimizer.gradient.any()
    assert all(not state["exp_avg"].any() and state["step"] == 0 for state in optimizer.state.values())


def test_backward_writes_to_the_vector_and_adds_up():
    policy, optimizer = make()
    reference = make()[0]
    rows, task = randn(6, 4, dtype=torch.float32), torch.arange(6) % 2

    def loss(trained):
        return sum(torso(rows, task).square().sum() for _, torso in trained.networks()) + trained.kl().sum()

    def plain_gradients(times):
        reference.zero_grad()
        for _ in range(times):
            loss(reference).backward()
        return {name: p.grad for name, p in reference.named_parameters()}

    for times in (1, 2, 3):
        loss(policy).backward()
        assert_tied(policy, optimizer)
        for name, expected in plain_gradients(times).items():
            torch.testing.assert_close(policy.get_parameter(name).grad, expected)
    optimizer.zero_grad()
    assert not optimizer.gradient.any()
    assert_tied(policy, optimizer)
    loss(policy).backward()
    squares = sum(g.square().sum() for g in plain_gradients(1).values())
    torch.testing.assert_close(optimizer.gradient.square().sum(), squares)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_keeps_the_views(set_to_none):
    policy, optimizer = make()
    set_gradients(policy, 1)
    optimizer.zero_grad(set_to_none)
    assert_tied(policy, optimizer)
    assert all(p.grad is not None and not p.grad.any() for p in policy.parameters())


def through_double(policy):
    policy.double()


def through_other_weights(policy):
    other = make_policy("MirroredCartPole", seed=5)
    perturb(other, seed=9)
    policy.load_state_dict(other.state_dict())


def through_new_data(policy):
    for k, parameter in enumerate(policy.parameters()):
        parameter.data = randn(*parameter.shape, seed=k).float()


def through_data_of_another_layout(policy):
    for k, parameter in enumerate(policy.parameters()):
        parameter.data = randn(*parameter.shape[::-1], seed=k).float().permute(*reversed(range(parameter.dim())))


def through_no_gradients(policy):
    policy.zero_grad(set_to_none=True)


def through_own_gradients(policy):
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)


MOVES = [
    through_double,
    through_other_weights,
    through_new_data,
    through_data_of_another_layout,
    through_no_gradients,
    through_own_gradients,
]


@pytest.mark.parametrize("move", MOVES)
def test_what_was_moved_is_tied_again_with_its_values(move):
    """Into the optimizer's own type: numbers of 64 bits become ones of 32."""
    policy, optimizer = make()
    move(policy)
    expected = {name: value.float() for name, value in weights_of(policy).items()}
    optimizer.tie()
    assert_tied(policy, optimizer)
    assert all(torch.equal(p, expected[name]) for name, p in policy.named_parameters())
    # And it learns.
    reference = make_policy("MirroredCartPole")
    reference.load_state_dict(expected)
    set_gradients(policy, 3)
    for ours, plain in zip(policy.parameters(), reference.parameters(), strict=True):
        plain.grad = ours.grad.clone()
    optimizer.advance()
    plain_adam(reference, fused=True).step()
    torch.testing.assert_close(weights_of(policy), weights_of(reference), rtol=1e-6, atol=1e-7)


def test_what_is_tied_stays_where_it_is():
    policy, optimizer = make()
    set_gradients(policy, 1)
    before = [(p, p.data_ptr(), p.grad) for p in policy.parameters()]
    gradient = optimizer.gradient.clone()
    optimizer.tie()
    assert all(p.data_ptr() == place and p.grad is g for p, place, g in before)
    assert torch.equal(optimizer.gradient, gradient)


def test_a_copy_of_the_policy_is_not_trained():
    policy, optimizer = make()
    twin = copy.deepcopy(policy)
    before = weights_of(twin)
    set_gradients(policy, 1)
    optimizer.advance()
    assert all(torch.equal(p, before[name]) for name, p in twin.named_parameters())
    assert not torch.equal(twin.actor.stack.head.theta, policy.actor.stack.head.theta)


LOG_VARS = [f"{network}.stack.{layer}.log_var" for network in ("actor",) for layer in ("layer_1", "layer_2", "head")]


@pytest.mark.parametrize("frozen", [["actor.stack.head.bias", "critic.stack.layer_1.mu"], LOG_VARS])
def test_a_frozen_parameter_stays_out(frozen):
    policy, optimizer = make(frozen=frozen)
    assert isinstance(optimizer, FlatAdam)
    assert_tied(policy, optimizer)
    before = weights_of(policy)
    set_gradients(policy, 1)
    optimizer.advance()
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in frozen), name
