"""The actor's noise under ``actor_noise: stored``: drawn per env step at the layers' outputs, kept for the update.

Local reparameterisation (Kingma et al. 2015, arXiv 1506.02557) gives every row weights of its own, so that rows are
independent draws from the posterior. The update takes a row's noise again, and PPO's ratio starts at 1. The noise of
a row is one vector of length Z, layer behind layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varshare_pl.random import array_stream
from varshare_pl.sharing.gaussian import LocalNoise
from varshare_pl.sharing.torso import Torso


def draw(actor: Torso, steps: int, envs: int, seed: int, rollout: int) -> Tensor:
    """For all steps of a rollout, (steps, envs, Z) on the CPU; Z is 0 for an actor without noise."""
    generator = array_stream(seed, "stored_noise", rollout)
    drawn = [noise.zeta.cpu() for noise in actor.draw_local_noise(steps, envs, generator) if noise is not None]
    return torch.cat([torch.empty(steps, envs, 0), *drawn], -1)


def take_off(actor: Torso, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Noise (…, K) of actions and actor as the two, (…, K − Z) and (…, Z)."""
    own = sum(actor.local_noise_sizes())
    first, second = torch.split(noise, [noise.shape[-1] - own, own], -1)
    return first, second


def split(actor: Torso, noise: Tensor) -> list[LocalNoise | None]:
    """Noise (G, R, Z) by layers."""
    sizes = actor.local_noise_sizes()
    return [LocalNoise(part) if part.shape[-1] else None for part in torch.split(noise, sizes, -1)] if sizes else []


def blank(actor: Torso, groups: int) -> list[LocalNoise | None]:
    """To prepare weights with before there is noise."""
    like = next(actor.parameters())
    return split(actor, like.new_zeros(groups, 1, sum(actor.local_noise_sizes())))
