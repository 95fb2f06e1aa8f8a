"""A convolutional encoder of images before a method's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import NewTask, of_tasks
from varshare_pl.networks.options import EncoderName
from varshare_pl.types import EnvSpec


class Convolution(NamedTuple):
    """The sizes of a layer."""

    channels: int
    side: int  # of the square kernel
    stride: int


# Of MOORE's nets for MiniGrid's views of 7 × 7 cells (Hendawy et al. 2024, arXiv 2311.11385; its published code).
VIEW = (Convolution(16, 2, 1), Convolution(32, 2, 1), Convolution(64, 2, 1))
# Of DQN's net for screens of 84 × 84 points (Mnih et al. 2015).
SCREEN = (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1))
SMALLEST_VIEW, SMALLEST_SCREEN = 4, 36  # the shorter side of an image, from which on each has a point left


@dataclass(frozen=True)
class ImageSpec:
    """What an encoder is told of the images.

    Attributes:
        shape: Of an image as it is observed. Channels are its last axis, or the first, if that is the shorter one, as
            in a stack of grey frames.
        num_tasks: M.
        gain: Scale of the orthogonal initial weights.
    """

    shape: tuple[int, ...]
    num_tasks: int
    gain: float = 2**0.5

    @property
    def channels_first(self) -> bool:
        """Whether channels are the first axis."""
        return self.shape[0] < self.shape[-1]

    @property
    def layers(self) -> tuple[Convolution, ...]:
        """The layers for images of this size."""
        return SCREEN if shortest_side(self.shape) >= SMALLEST_SCREEN else VIEW

    @property
    def num_features(self) -> int:
        """The length of an encoded image."""
        height, width = self.shape[1:] if self.channels_first else self.shape[:2]
        for _, side, stride in self.layers:
            height, width = (height - side) // stride + 1, (width - side) // stride + 1
        return self.layers[-1].channels * height * width


def shortest_side(shape: Sequence[int]) -> int:
    """Of an image, its channels left out."""
    return min(shape[1:] if shape[0] < shape[-1] else shape[:2])


def image_spec(spec: EnvSpec, encoder: EncoderName, gain: float) -> ImageSpec | None:
    """What is encoded; None where networks read observations as they are.

    Args:
        spec: Of the task suite.
        encoder: The option.
        gain: Of initial weights.

    Raises:
        ConfigError: for "cnn" where observations are no images.
    """
    fits = len(spec.obs_shape) == 3 and shortest_side(spec.obs_shape) >= SMALLEST_VIEW
    if encoder == "cnn" and not fits:
        raise ConfigError(
            f"model.encoder: cnn is not allowed for observations of shape {spec.obs_shape}; images of three axes can "
            f"have it, with sides of at least {SMALLEST_VIEW}"
        )
    wanted = encoder == "cnn" or (encoder == "auto" and spec.obs_dtype == "uint8")
    return ImageSpec(spec.obs_shape, spec.num_tasks, gain) if wanted and fits else None


class ConvolutionLayer(nn.Module):
    """Weights of K nets.

    Args:
        nets: K.
        channels: Of its input.
        sizes: Of the layer.
        gain: Scale of the initial weights.
        generator: Draws them.
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {"weight": "own", "bias": "own"}

    def __init__(self, nets: int, channels: int, sizes: Convolution, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(nets, sizes.channels, channels, sizes.side, sizes.side))
        self.bias = nn.Parameter(torch.zeros(nets, sizes.channels))
        orthogonal(self.weight.detach().flatten(2), gain, generator)


class ImageEncoder(nn.Module):
    """Images to vectors: convolutions, each followed by a ReLU.

    Args:
        spec: Of the images.
        per_task: Whether each task has a net of its own; else all share one.
        generator: Draws the initial weights.
    """

    def __init__(self, spec: ImageSpec, generator: torch.Generator, per_task: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.per_task = per_task
        channels = spec.shape[0] if spec.channels_first else spec.shape[-1]
        nets = spec.num_tasks if per_task else 1
        layers = []
        for sizes in spec.layers:
            layers.append(ConvolutionLayer(nets, channels, sizes, spec.gain, generator))
            channels = sizes.channels
        self.stack = nn.ModuleList(layers)
        self._layers = layers

    def prepare(self, group_task: Tensor) -> list[Tensor]:
        """The weights and biases of the groups' nets, or of the one of all."""
        return [of_tasks(parameter, group_task) if self.per_task else parameter for parameter in self._weights()]

    def prepare_shared(self) -> list[Tensor]:
        """Those of one net for all groups: the mean of the tasks' nets."""
        return [parameter.mean(0, keepdim=True) for parameter in self._weights()]

    def _weights(self) -> list[Tensor]:
        return [parameter for layer in self._layers for parameter in (layer.weight, layer.bias)]

    def compute(self, prepared: Sequence[Tensor], x: Tensor) -> Tensor:
        """Flat images x (G, R, H · W · C) to features (G, R, F), of the type of x."""
        groups, rows = x.shape[:2]
        images = x.view(groups, rows, *self.spec.shape)
        images = images if self.spec.channels_first else images.movedim(-1, 2)
        nets = len(prepared[0])
        # Rows of several nets stand side by side as groups of channels, those of one net behind one another.
        y = images.transpose(0, 1).flatten(1, 2) if nets > 1 else images.flatten(0, 1)
        for sizes, weight, bias in zip(self.spec.layers, prepared[::2], prepared[1::2], strict=True):
            y = nn.functional.conv2d(y, weight.flatten(0, 1), bias.flatten(), stride=sizes.stride, groups=nets).relu()
        features = y.reshape(rows, groups, -1).transpose(0, 1) if nets > 1 else y.reshape(groups, rows, -1)
        return features.to(x.dtype)
