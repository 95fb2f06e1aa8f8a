"""The hidden widths at which a method's networks have as many parameters as VarShare's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Literal

import torch

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.options import ActionOptions, NetworkOptions
from varshare_pl.networks.size import active_behind, count_active, read_parts
from varshare_pl.sharing.varshare.method import VarShare
from varshare_pl.types import EnvSpec

MatchParameters = Literal["active", "stored"]
TOLERANCE = 0.02
MOST = 64  # times the widths that were asked for

Widths = tuple[int, ...]


def matched_hidden_sizes(
    spec: EnvSpec,
    sharing: SharingMethod,
    network: NetworkOptions,
    match: MatchParameters | None,
    actions: ActionOptions | None = None,
) -> Widths:
    """Widen or narrow the hidden layers until actor and critic have VarShare's number of parameters, within 2 %.

    VarShare is that of the default options, with the widths given. All widths are scaled by one factor; where rounding
    to whole units leaves more than 2 %, single units are added or taken one by one.

    Args:
        spec: Sizes of the task suite.
        sharing: The method whose networks are matched.
        network: With the widths of VarShare's hidden layers.
        match: Which number, as ``networks.size`` counts them; None: keep the widths.
        actions: Of continuous actions, whose distributions may have parameters and outputs of their own.

    Raises:
        ConfigError: if the method's networks have no such widths.
    """
    hidden_sizes = tuple(network.hidden_sizes)
    if match is None:
        return hidden_sizes
    target = parameter_count(spec, VarShare(), network, match, actions)(hidden_sizes)
    count = parameter_count(spec, sharing, network, match, actions)

    def off(widths: Widths) -> float:
        found = count(widths)
        return abs(found / target - 1.0) if found else inf

    widest = max(hidden_sizes)

    def scaled(units: int) -> Widths:
        return tuple(max(1, round(size * units / widest)) for size in hidden_sizes)

    units = bisect_left(range(MOST * widest), target, lo=1, key=lambda units: count(scaled(units)))
    widths = min(scaled(max(1, units - 1)), scaled(units), key=off)
    while off(widths) > TOLERANCE:
        closer = min(_one_unit_away(widths), key=off)
        if off(closer) >= off(widths):
            raise ConfigError(
                f"model.match_parameters: {match} is not allowed with model.hidden_sizes {list(hidden_sizes)}; "
                f"VarShare then has {target:,} {match} parameters and this method at the closest {count(widths):,}, "
                f"with {list(widths)}; null or other model.hidden_sizes are allowed"
            )
        widths = closer
    return widths


def parameter_count(
    spec: EnvSpec,
    sharing: SharingMethod,
    network: NetworkOptions,
    match: MatchParameters,
    actions: ActionOptions | None = None,
) -> Callable[[Sequence[int]], int]:
    """A function from hidden widths to parameters of actor and critic; 0 for widths that the method refuses.

    What one task uses of each parameter is seen once, in networks of the widths given; counted are shapes alone, of
    networks without memory or numbers (torch's device "meta"), so that wide ones cost nothing.
    """
    with torch.random.fork_rng(devices=[]):
        reference = ActorCritic(spec, sharing, network, actions=actions)
    parts = {name: read_parts(network, spec.obs_size) for name, network in reference.networks()}

    def count(widths: Sequence[int]) -> int:
        try:
            with torch.device("meta"):
                policy = ActorCritic(spec, sharing, replace(network, hidden_sizes=widths), actions=actions)
        except ConfigError:
            return 0
        if match == "active":
            return sum(count_active(net, parts[name]) + active_behind(policy, name) for name, net in policy.networks())
        return sum(p.numel() for p in policy.parameters())

    return count


def _one_unit_away(widths: Widths) -> Iterator[Widths]:
    for layer, width in enumerate(widths):
        for changed in (width - 1, width + 1):
            if changed:
                yield (*widths[:layer], changed, *widths[layer + 1 :])
