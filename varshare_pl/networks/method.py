"""What a sharing method is: a factory of task-aware linear layers, or of whole networks."""

from __future__ import annotations

from typing import ClassVar

import torch

from varshare_pl.networks.encoder import ImageEncoder, ImageSpec
from varshare_pl.networks.layer import LayerSpec, TaskLinear
from varshare_pl.networks.network import NetworkSpec, TaskMLP, TaskNetwork


class SharingMethod:
    """How tasks share parameters. One subclass a file; its init arguments are the method's options.

    A method makes layers, or, if it is about whole networks, networks.

    ``name`` is the short name that configs and the command line accept.
    """

    name: ClassVar[str]

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        """A new layer; its parameters are drawn afterwards by ``reset_parameters``."""
        raise NotImplementedError(f"{type(self).__name__} makes neither layers nor networks, for {spec.name}")

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> TaskNetwork:
        """A new network with its initial weights, drawn from generator: a multilayer perceptron of the layers."""
        return TaskMLP(self.make_layer, spec, generator)

    def make_encoder(self, spec: ImageSpec, generator: torch.Generator) -> ImageEncoder:
        """A new encoder of images with its initial weights, before one network: one of all tasks."""
        return ImageEncoder(spec, generator)
