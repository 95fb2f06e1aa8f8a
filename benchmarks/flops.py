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


def gemm_rate(rows: int, width: int, seconds: float = 0.5) -> float:
    """Operations per second of (rows × width) @ (width × width), one thread: the median of short stretches."""
    x, weight = torch.randn(rows, width), torch.randn(width, width)
    output = torch.empty(rows, width)
    repeats = max(1, 20_000_000 // (rows * width * width // 10))  # some milliseconds each
    stretches: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(stretches) < 3:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(x, weight, out=output)
        stretches.append(time.perf_counter() - start)
    return 2 * rows * width * width * repeats / statistics.median(stretches)


def device_gemm_rate(device: torch.device, dtype: torch.dtype, size: int, repeats: int = 20) -> float:
    """Operations per second of a product of two (size × size) matrices on a device: the most that it reaches."""
    x = torch.randn(size, size, device=device, dtype=dtype)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    x @ x  # the first call prepares
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        x @ x
    wait()
    return 2 * size**3 * repeats / (time.perf_counter() - start)
