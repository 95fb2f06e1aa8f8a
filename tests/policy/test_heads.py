import math

import pytest
import torch
from helpers import generator, randn
from torch.distributions import Categorical

from varshare_pl.policy.heads import CategoricalHead


def test_log_prob_and_entropy_equal_torch_distributions():
    logits = 3 * randn(6, 7, 4)
    actions = torch.randint(4, (6, 7), generator=generator())
    head, reference = CategoricalHead(4), Categorical(logits=logits)
    log_prob, entropy = head.log_prob_and_entropy(logits, actions)
    torch.testing.assert_close(log_prob, reference.log_prob(actions))
    torch.testing.assert_close(entropy, reference.entropy())
    torch.testing.assert_close(head.log_prob(logits, actions), reference.log_prob(actions))
    assert torch.equal(head.mode(logits), reference.probs.argmax(-1))
    assert head.num_outputs == 4


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    log_prob, entropy = CategoricalHead(3).log_prob_and_entropy(logits, torch.tensor([0]))
    (log_prob + entropy).sum().backward()
    assert log_prob.item() == 0.0
    assert entropy.item() == pytest.approx(0.0)
    assert logits.grad.isfinite().all()


def test_gumbel_max_frequencies_equal_softmax():
    """Each frequency within 4 standard errors and χ² below its 99.99 % quantile; the seed is fixed."""
    n, logits = 50_000, torch.tensor([1.0, 0.0, -1.0, 2.0])
    head = CategoricalHead(4)
    actions = head.sample(logits, head.draw_noise(n // 10, 10, generator(3))).flatten()
    p = logits.softmax(0)
    counts = torch.bincount(actions, minlength=4)
    assert ((counts / n - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()
    assert ((counts - n * p).square() / (n * p)).sum() < 21.1  # 3 degrees of freedom


def test_noise_is_gumbel_and_hangs_on_its_generator():
    head = CategoricalHead(5)
    noise = head.draw_noise(200, 50, generator(1))
    assert noise.shape == (200, 50, 5)
    n = noise.numel()
    assert abs(noise.double().mean() - 0.5772156649) <= 4 * math.pi / math.sqrt(6 * n)  # mean γ, variance π²/6
    torch.manual_seed(0)
    assert torch.equal(noise, head.draw_noise(200, 50, generator(1)))
    assert not torch.equal(noise, head.draw_noise(200, 50, generator(2)))


def test_sample_is_a_function_of_its_noise():
    head = CategoricalHead(3)
    logits, noise = torch.zeros(2, 3), torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert head.sample(logits, noise).tolist() == [1, 0]
    assert head.sample(torch.tensor([0.0, 0.0, 1.5]), noise).tolist() == [2, 0]
