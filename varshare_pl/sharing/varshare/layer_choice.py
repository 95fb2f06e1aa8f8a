"""Which layers of a network an option means: all, the last few, or a list of names and indices."""

from __future__ import annotations

import re

from varshare_pl.errors import ConfigError
from varshare_pl.networks.layer import LayerSpec

Layers = list[int | str] | str


def is_chosen(layers: Layers, spec: LayerSpec) -> bool:
    """Whether the option ``layers`` means the layer.

    Args:
        layers: "all", "last K", a layer's name, or a list of names and of indices; negative ones count from the head.
        spec: The layer.

    Raises:
        ConfigError: if there is no such layer.
    """
    count = spec.num_layers
    if isinstance(layers, str):
        if layers == "all":
            return True
        if last := re.fullmatch(r"last[ _](\d+)", layers):
            if not 1 <= int(last[1]) <= count:
                raise ConfigError(f"layers: {layers!r} is not allowed; 'last 1' to 'last {count}' are")
            return spec.index >= count - int(last[1])
        layers = [layers]
    names = [*(f"layer_{i}" for i in range(1, count)), "head"]
    chosen = set()
    for layer in layers:
        if isinstance(layer, str) and layer in names:
            chosen.add(names.index(layer))
        elif isinstance(layer, int) and -count <= layer < count:
            chosen.add(layer % count)
        else:
            raise ConfigError(
                f"layers: {layer!r} is not allowed; all, last K, or some of {', '.join(names)} or {-count} to "
                f"{count - 1} are"
            )
    if not chosen:
        raise ConfigError("layers: an empty list is not allowed; without a layer of its own it is the method shared")
    return spec.index in chosen
