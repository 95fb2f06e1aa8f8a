import math

import pytest
import torch
from helpers import generator, randn
from torch.distributions import Categorical

from varshare_pl.networks.distributions import Categorical


def test_log_prob_and_entropy_equal_torch_distributions():
    logits = 3 * randn(6, 7, 4)
    actions = torch.randint(4, (6, 7), generator=generator())
    head, reference = Categorical(4), Categorical(logits=logits)
    log_prob, entropy = head.log_prob_and_entropy(logits, actions)
    torch.testing.assert_close(log_prob, reference.log_prob(actions))
    torch.testing.assert_close(entropy, reference.entropy())
    torch.testing.assert_close(head.log_prob(logits, actions), reference.log_prob(actions))
    assert torch.equal(head.mode(logits), reference.probs.argmax(-1))
    assert head.num_outputs == 4


def by_autograd(logits, actions, of_log_prob, of_entropy):
    distribution = Categorical(logits=logits)
    total = (of_log_prob * distribution.log_prob(actions) + of_entropy * distribution.entropy()).sum()
    return torch.autograd.grad(total, logits)[0]


@pytest.mark.parametrize("shape", [(6, 7), (4,), (1, 1), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("num_actions", [1, 2, 3, 18])
def test_gradients_equal_those_of_torch_distributions(shape, num_actions):
    logits = (3 * randn(*shape, num_actions)).requires_grad_()
    actions = torch.randint(num_actions, shape, generator=generator())
    of_log_prob, of_entropy = randn(*shape, seed=1), randn(*shape, seed=2)
    zeros = torch.zeros(shape).double()
    for a, b in ((of_log_prob, of_entropy), (of_log_prob, zeros), (zeros, of_entropy)):
        log_prob, entropy = Categorical(num_actions).log_prob_and_entropy(logits, actions)
        assert log_prob.shape == entropy.shape == shape
        (found,) = torch.autograd.grad((a * log_prob + b * entropy).sum(), logits)
        torch.testing.assert_close(found, by_autograd(logits, actions, a, b), rtol=1e-12, atol=1e-12)


def test_each_result_has_a_gradient_of_its_own():
    """One that is left out is no error, and a gradient that is one number for all rows is none either."""
    logits = (3 * randn(4, 5, 3)).requires_grad_()
    actions = torch.randint(3, (4, 5), generator=generator())
    ones, zeros = torch.ones(4, 5).double(), torch.zeros(4, 5).double()
    for which, (a, b) in enumerate([(ones, zeros), (zeros, ones)]):
        result = Categorical(3).log_prob_and_entropy(logits, actions)[which]
        (found,) = torch.autograd.grad(result.sum(), logits)
        torch.testing.assert_close(found, by_autograd(logits, actions, a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_actions", [2, 5])
def test_gradient_by_differences(num_actions):
    logits, actions = randn(3, 4, num_actions), torch.randint(num_actions, (3, 4), generator=generator())
    head = Categorical(num_actions)
    assert torch.autograd.gradcheck(lambda x: head.log_prob_and_entropy(x, actions), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: head.log_prob(x, actions), logits)
    columns = randn(num_actions, 4, 3).mT.transpose(0, 2)  # not contiguous, as a narrow layer gives it
    actions = torch.randint(num_actions, columns.shape[:-1], generator=generator())
    assert torch.autograd.gradcheck(lambda x: head.log_prob_and_entropy(x, actions), columns.requires_grad_())


def test_backward_can_be_repeated_and_changes_nothing():
    logits, actions = randn(3, 4, 5).requires_grad_(), torch.randint(5, (3, 4), generator=generator())
    results = Categorical(5).log_prob_and_entropy(logits, actions)
    seeds = [randn(3, 4, seed=1), randn(3, 4, seed=2)]
    before = [t.detach().clone() for t in (logits, *results, *seeds)]
    first, second = (torch.autograd.grad(results, logits, seeds, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(a.detach(), b) for a, b in zip((logits, *results, *seeds), before, strict=True))


def test_a_second_derivative_is_refused_rather_than_wrong():
    logits = randn(3, 4).requires_grad_()
    log_prob, entropy = Categorical(4).log_prob_and_entropy(logits, torch.tensor([0, 1, 2]))
    (gradient,) = torch.autograd.grad((log_prob + entropy).square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_not_a_number_stays_in_its_row():
    logits = randn(3, 4)
    logits[1, 2] = torch.nan
    logits.requires_grad_()
    log_prob, entropy = Categorical(4).log_prob_and_entropy(logits, torch.tensor([0, 1, 2]))
    (log_prob + entropy).sum().backward()
    for result in (log_prob, entropy):
        assert result.isnan().tolist() == [False, True, False]
    assert logits.grad.isnan().all(-1).tolist() == [False, True, False]
    assert logits.grad.isnan().any(-1).tolist() == [False, True, False]


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    log_prob, entropy = Categorical(3).log_prob_and_entropy(logits, torch.tensor([0]))
    (log_prob + entropy).sum().backward()
    assert log_prob.item() == 0.0
    assert entropy.item() == pytest.approx(0.0)
    assert logits.grad.isfinite().all()


def test_gumbel_max_frequencies_equal_softmax():
    """Each frequency within 4 standard errors and χ² below its 99.99 % quantile; the seed is fixed."""
    n, logits = 50_000, torch.tensor([1.0, 0.0, -1.0, 2.0])
    head = Categorical(4)
    actions = head.sample(logits, head.draw_noise(n // 10, 10, generator(3))).flatten()
    p = logits.softmax(0)
    counts = torch.bincount(actions, minlength=4)
    assert ((counts / n - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()
    assert ((counts - n * p).square() / (n * p)).sum() < 21.1  # 3 degrees of freedom


def test_noise_is_gumbel_and_hangs_on_its_generator():
    head = Categorical(5)
    noise = head.draw_noise(200, 50, generator(1))
    assert noise.shape == (200, 50, 5)
    n = noise.numel()
    assert abs(noise.double().mean() - 0.5772156649) <= 4 * math.pi / math.sqrt(6 * n)  # mean γ, variance π²/6
    torch.manual_seed(0)
    assert torch.equal(noise, head.draw_noise(200, 50, generator(1)))
    assert not torch.equal(noise, head.draw_noise(200, 50, generator(2)))


def test_sample_is_a_function_of_its_noise():
    head = Categorical(3)
    logits, noise = torch.zeros(2, 3), torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert head.sample(logits, noise).tolist() == [1, 0]
    assert head.sample(torch.tensor([0.0, 0.0, 1.5]), noise).tolist() == [2, 0]
