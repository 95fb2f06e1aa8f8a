import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import generator, randn
from torch import distributions as torchs

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actions import (
    Categorical,
    DiagonalGaussian,
    MultiDiscrete,
    SquashedGaussian,
    make_distribution,
)
from varshare_pl.networks.options import ActionOptions


def test_log_prob_and_entropy_equal_torch_distributions():
    logits = 3 * randn(6, 7, 4)
    actions = torch.randint(4, (6, 7), generator=generator())
    distribution, reference = Categorical(4), torchs.Categorical(logits=logits)
    log_prob, entropy = distribution.log_prob_and_entropy(logits, actions)
    torch.testing.assert_close(log_prob, reference.log_prob(actions))
    torch.testing.assert_close(entropy, reference.entropy())
    torch.testing.assert_close(distribution.log_prob(logits, actions), reference.log_prob(actions))
    assert torch.equal(distribution.mode(logits), reference.probs.argmax(-1))
    assert distribution.num_outputs == 4


def by_autograd(logits, actions, of_log_prob, of_entropy):
    distribution = torchs.Categorical(logits=logits)
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


@pytest.mark.parametrize("num_actions", [2, 5])
def test_gradient_by_differences(num_actions):
    logits, actions = randn(3, 4, num_actions), torch.randint(num_actions, (3, 4), generator=generator())
    distribution = Categorical(num_actions)
    assert torch.autograd.gradcheck(lambda x: distribution.log_prob_and_entropy(x, actions), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: distribution.log_prob(x, actions), logits)
    columns = randn(num_actions, 4, 3).mT.transpose(0, 2)  # not contiguous, as a narrow layer gives it
    actions = torch.randint(num_actions, columns.shape[:-1], generator=generator())
    assert torch.autograd.gradcheck(lambda x: distribution.log_prob_and_entropy(x, actions), columns.requires_grad_())


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
    distribution = Categorical(4)
    actions = distribution.sample(logits, distribution.draw_noise(n // 10, 10, generator(3))).flatten()
    p = logits.softmax(0)
    counts = torch.bincount(actions, minlength=4)
    assert ((counts / n - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()
    assert ((counts - n * p).square() / (n * p)).sum() < 21.1  # 3 degrees of freedom


def test_noise_is_gumbel_and_hangs_on_its_generator():
    distribution = Categorical(5)
    noise = distribution.draw_noise(200, 50, generator(1))
    assert noise.shape == (200, 50, 5)
    n = noise.numel()
    assert abs(noise.double().mean() - 0.5772156649) <= 4 * math.pi / math.sqrt(6 * n)  # mean γ, variance π²/6
    torch.manual_seed(0)
    assert torch.equal(noise, distribution.draw_noise(200, 50, generator(1)))
    assert not torch.equal(noise, distribution.draw_noise(200, 50, generator(2)))


def test_sample_is_a_function_of_its_noise():
    distribution = Categorical(3)
    logits, noise = torch.zeros(2, 3), torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert distribution.sample(logits, noise).tolist() == [1, 0]
    assert distribution.sample(torch.tensor([0.0, 0.0, 1.5]), noise).tolist() == [2, 0]


def test_the_action_space_says_which_distribution():
    def make(space, **options):
        return make_distribution(space, 3, ActionOptions(**options))

    assert make(spaces.Discrete(5)).num_outputs == 5
    assert type(make(spaces.Discrete(5))) is Categorical
    assert type(make(spaces.MultiDiscrete([2, 3]))) is MultiDiscrete
    box = spaces.Box(-1.0, 1.0, (2, 2))
    assert type(make(box)) is DiagonalGaussian
    assert type(make(box, action_bounds="tanh")) is SquashedGaussian
    assert [make(box, log_std=kind).num_outputs for kind in ("task", "shared", "network")] == [4, 4, 8]
    for space in (spaces.Box(0, 9, (2,), np.int64), spaces.MultiBinary(3)):
        allowed = r"is not allowed; Discrete, MultiDiscrete and a Box of floats are$"
        with pytest.raises(ConfigError, match=rf"^data\.suite: the action space \w+\(.*\) {allowed}"):
            make(space)


def test_it_has_no_parameters_of_its_own():
    assert not Categorical(5).state_dict()


def test_kl_equals_torch_distributions():
    old, new = 3 * randn(6, 7, 4), 3 * randn(6, 7, 4, seed=1)
    expected = torchs.kl_divergence(torchs.Categorical(logits=old), torchs.Categorical(logits=new))
    torch.testing.assert_close(Categorical(4).kl(old, new), expected)


@pytest.mark.parametrize(("nvec", "shape"), [([3, 2, 5], (3,)), ([[2, 4], [3, 1]], (2, 2)), ([6], (1,))], ids=str)
def test_multi_discrete_is_independent_categoricals(nvec, shape):
    distribution, sizes = make_distribution(spaces.MultiDiscrete(nvec), 2, ActionOptions()), np.ravel(nvec).tolist()
    assert distribution.num_outputs == sum(sizes)
    old, new = 2 * randn(4, 5, sum(sizes)), (2 * randn(4, 5, sum(sizes), seed=1)).requires_grad_()
    parts = [torchs.Categorical(logits=part) for part in old.split(sizes, -1)]
    own = [torchs.Categorical(logits=part) for part in new.split(sizes, -1)]
    actions = torch.stack([torch.randint(n, (4, 5), generator=generator(n)) for n in sizes], -1)
    log_prob, entropy = distribution.log_prob_and_entropy(new, actions.unflatten(-1, shape))
    expected = sum(part.log_prob(action) for part, action in zip(own, actions.unbind(-1), strict=True))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, sum(part.entropy() for part in own))
    torch.testing.assert_close(
        torch.autograd.grad((log_prob + entropy).sum(), new),
        torch.autograd.grad((expected + sum(part.entropy() for part in own)).sum(), new),
    )
    expected = sum(torchs.kl_divergence(a, b) for a, b in zip(parts, own, strict=True))
    torch.testing.assert_close(distribution.kl(old, new), expected)
    modes = torch.stack([part.probs.argmax(-1) for part in own], -1).unflatten(-1, shape)
    assert torch.equal(distribution.mode(new), modes)
    assert torch.equal(distribution.to_env(modes), modes)


def test_multi_discrete_draws_what_it_says():
    distribution = make_distribution(spaces.MultiDiscrete([3, 2]), 1, ActionOptions())
    logits = torch.tensor([0.5, -1.0, 0.2, 1.0, 0.0])
    drawn = distribution.sample(logits, distribution.draw_noise(200, 200, generator())).flatten(0, 1)
    for k, part in enumerate(logits.split([3, 2])):
        found = torch.bincount(drawn[:, k], minlength=len(part)) / len(drawn)
        torch.testing.assert_close(found, part.softmax(-1), rtol=0, atol=0.01)
    both = (drawn == torch.tensor([0, 0])).all(-1).float().mean()
    assert float(both) == pytest.approx(float(logits[:3].softmax(0)[0] * logits[3:].softmax(0)[0]), abs=0.01)
