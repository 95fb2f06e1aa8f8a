"""The name of compiled code tells apart whatever would make other code."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.compilation.functions import _digest


def digest_of(constant, argument=None):
    arguments = [torch.zeros(2) if argument is None else argument]
    graph = make_fx(lambda x: [x + constant], tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    return _digest(graph, arguments)


def test_constants_count():
    one, same, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert digest_of(one) == digest_of(same)
    assert digest_of(one) != digest_of(other)


def test_arguments_count():
    constant = torch.ones(1)
    assert digest_of(constant) != digest_of(constant, torch.zeros(3))
    assert digest_of(constant) != digest_of(constant, torch.zeros(2, dtype=torch.float64))
