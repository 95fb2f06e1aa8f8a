"""Whole networks of every method of the package, found by itself, and of the README's example of one."""

from functools import partial
from typing import Any

import pytest
import torch
from helpers import ALL_METHODS, VARIANTS, generator, perturb, readme_example

from varshare_pl.sharing import NetworkSpec, VarShare

METHODS: dict[str, Any] = {**ALL_METHODS, **VARIANTS}
METHODS["varshare absorption, task_embedding"] = partial(VarShare, absorption=0.5, task_embedding=2)
example: dict[str, Any] = {"__name__": "task_bias"}
exec(readme_example(), example)
METHODS["README's"] = example["TaskBias"]

M, IN, OUT = 7, 3, 2  # 7 is no size that a method has by default
every_method = pytest.mark.parametrize("method", METHODS)


def make(method, tasks=M, seed=0, dtype=torch.float64, network="actor"):
    """A network as it starts."""
    spec = NetworkSpec(network, IN, (8, 8), OUT if network == "actor" else 1, tasks)
    return METHODS[method]().make_network(spec, generator(seed)).to(dtype)


def make_perturbed(method, **options):
    """One as it may be later in training."""
    network = make(method, **options)
    perturb(network)
    return network
