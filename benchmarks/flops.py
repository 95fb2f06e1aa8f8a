"""The work that matrix products set: how many operations an update needs, and how fast the machine does them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import torch

Layer = tuple[str, int, int]
"""Network ("actor", "critic"), inputs and outputs of a linear layer."""


def update_flops(layers: Iterable[Layer], rows: int, epochs: int) -> int:
    """Floating point operations of all matrix products of an update.

    Every epoch takes each row forward and backward through both nets; the gradient of a net's own input is not needed.
    Before them the critic values each row once.
    """
    total = 0
    seen: set[str] = set()
    for network, inputs, outputs in layers:
        product = 2 * rows * inputs * outputs
        first = network not in seen
        seen.add(network)
        total += epochs * product * (2 if first else 3)  # forward, gradient of the weights, of the input
        if network == "critic":
            total += product
    return total


def gemm_rate(
    rows: int,
    width: int,
    seconds: float = 0.5,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """Operations per second of (rows × width) @ (width × width): the median of short stretches; one thread on a CPU."""
    x, weight = (torch.randn(size, width, device=device, dtype=dtype) for size in (rows, width))
    output = torch.empty_like(x)
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None
    repeats = max(1, 20_000_000 // (rows * width * width // 10))  # some milliseconds each
    stretches: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(stretches) < 3:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(x, weight, out=output)
        wait()
        stretches.append(time.perf_counter() - start)
    return 2 * rows * width * width * repeats / statistics.median(stretches)
