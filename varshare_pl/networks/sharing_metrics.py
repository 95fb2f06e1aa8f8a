"""How much is shared, measured so that it means something.

(θ + c, μ_m − c) is the same function for every c, so everything is taken in the gauge where μ̃ averages to 0 over tasks:
θ̄ = θ + mean_m μ_m and μ̃_m = μ_m − mean_m μ_m.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from varshare_pl.networks.layer import PenalisedLayer, TaskLinear, VariationalLayer
from varshare_pl.types import Detail

_ZERO = 1e-12  # a residual of this norm has no direction


@dataclass(frozen=True)
class LayerSharing:
    """Sharing of one layer."""

    network: str
    layer: str
    ratio: Tensor  # (M,) ‖θ̄‖ / (‖θ̄‖ + ‖μ̃_m‖), in [0, 1]
    energy: Tensor  # () ‖θ̄‖² / (‖θ̄‖² + mean_m ‖μ̃_m‖²)
    theta_norm: Tensor  # () ‖θ̄‖
    mu_norm: Tensor  # (M,) ‖μ̃_m‖
    task_similarity: Tensor  # () mean pairwise cosine of the μ̃_m; NaN for one task or residuals of norm 0
    sigma: Tensor | None  # (M,) mean σ
    specialised: Tensor | None  # (M,) share of weights with |μ̃| > 2 σ
    kl: Tensor | None  # (M,) nats; None if it was not asked for
    cosines: Tensor | None  # (M, M) of the μ̃_m, NaN with one of norm 0; None if they were not asked for
    prior_std: Tensor | None  # () σ_p, where it changes


@torch.no_grad()
def measure(layers: Iterable[tuple[str, str, TaskLinear]], full: bool = True) -> list[LayerSharing]:
    """Sharing of every layer (network, name, module) that has task-specific weights; with ``full`` KL and cosines."""
    measured = []
    for network, name, layer in layers:
        shared_and_residual = layer.shared_and_residual()
        if shared_and_residual is None:
            continue
        theta, mu = shared_and_residual[0], shared_and_residual[1].flatten(1)
        theta_norm, mu_norm = theta.norm(), mu.norm(dim=1)
        sigma = layer.sigma() if isinstance(layer, VariationalLayer) else None
        penalised = layer if isinstance(layer, PenalisedLayer) else None
        measured.append(
            LayerSharing(
                network=network,
                layer=name,
                ratio=theta_norm / (theta_norm + mu_norm),
                energy=theta_norm.square() / (theta_norm.square() + mu_norm.square().mean()),
                theta_norm=theta_norm,
                mu_norm=mu_norm,
                task_similarity=_similarity(mu, mu_norm),
                sigma=None if sigma is None else sigma.flatten(1).mean(1),
                specialised=None if sigma is None else (mu.abs() > 2.0 * sigma.flatten(1)).float().mean(1),
                kl=penalised.kl() if full and penalised is not None else None,
                cosines=cosines(mu) if full and len(mu) > 1 else None,
                prior_std=None if penalised is None else penalised.current_prior_std(),
            )
        )
    return measured


def _similarity(mu: Tensor, norm: Tensor) -> Tensor:
    tasks = len(mu)
    if tasks < 2 or bool((norm < _ZERO).any()):
        return mu.new_tensor(torch.nan)
    directions = mu / norm[:, None]
    # The squared length of the sum of unit vectors holds every pair twice and every vector once.
    return (directions.sum(0).square().sum() - tasks) / (tasks * (tasks - 1))


def cosines(rows: Tensor) -> Tensor:
    """(M, M) cosines between rows (M, P); NaN for a row that has no direction."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    directions = torch.where(norm < _ZERO, torch.nan, rows / norm)
    return directions @ directions.mT


def pair_details(metric: str, cosines: Tensor, network: str, layer: str = "") -> list[Detail]:
    """Each pair of tasks once, in the row of its first task and under the number of its second one."""
    first, second = torch.triu_indices(len(cosines), len(cosines), offset=1).tolist()
    pairs = zip(first, second, cosines[first, second].tolist(), strict=True)
    return [Detail(f"{metric}_with_{k}", value, network, layer, m) for m, k, value in pairs]


def headline(measured: list[LayerSharing]) -> dict[str, float]:
    """Means over layers and tasks, under the heartbeat's names; a metric that no layer has is absent."""
    fields = ("ratio", "energy", "theta_norm", "mu_norm", "sigma", "specialised", "task_similarity")
    values: dict[str, float] = {}
    for field in fields:
        per_layer = [v.mean() for m in measured if (v := getattr(m, field)) is not None]
        if per_layer:
            values[f"sharing/{field}"] = float(torch.stack(per_layer).nanmean())
    return values


def details(measured: list[LayerSharing]) -> list[Detail]:
    """One row per layer, and per task where the value has one."""
    names = {
        "sharing/ratio": "ratio",
        "sharing/energy": "energy",
        "sharing/theta_norm": "theta_norm",
        "sharing/mu_norm": "mu_norm",
        "sharing/task_similarity": "task_similarity",
        "sharing/sigma": "sigma",
        "sharing/specialised": "specialised",
        "kl/posterior": "kl",
        "sharing/prior_std": "prior_std",
    }
    rows = []
    for m in measured:
        for metric, field in names.items():
            value: Tensor | None = getattr(m, field)
            if value is None:
                continue
            if value.dim() == 0:
                rows.append(Detail(metric, float(value), m.network, m.layer))
            else:
                rows += [Detail(metric, v, m.network, m.layer, task) for task, v in enumerate(value.tolist())]
        if m.cosines is not None:
            rows += pair_details("sharing/cosine", m.cosines, m.network, m.layer)
    return rows
