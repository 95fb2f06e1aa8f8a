"""CARE, contextual attention-based representations: a mixture of encoders, mixed by what is known of the task.

K encoders e_1 … e_K read the observation; a context z_m says which task it is, and decides by attention how much of
each encoder the task gets. The trunk with its head reads the mixture and the context:

    e_k(s) = V_k σ(W_k s),   α_m = softmax(B σ(A z_m)),   y = trunk([Σ_k α_{m,k} e_k(s), z_m])

each product with a bias, σ the activation. All weights but z are shared. Computed is the same in another order: the
mixture and the V_k are one linear layer [α_{m,1} V_1, …, α_{m,K} V_K], and z_m adds to the bias of the trunk's first.

Sodhani, Zhang, Pineau: Multi-Task Reinforcement Learning with Context-based Representations, ICML 2021,
arXiv 2102.06177. What is different here:

1. The context is a learned embedding of the task id, started standard normal. The paper makes it from a sentence about
   the task, by a pretrained language model and a feed-forward network; our tasks have no such sentences.
2. PPO's actor and critic are such networks, each with encoders and contexts of its own. In the paper SAC's policy and Q
   functions share them, and the policy's loss does not train the encoders.
3. The activation is the run's, not ReLU; weights start orthogonal with the run's gains and biases at 0.
4. The attention trains the context too. The authors' code stops its gradient there; but their context starts from what
   the language model knows of the task, ours from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import linear

from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.checks import check_count
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LinearWeights, Noise
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskMLP, TaskNetwork, mlp
from varshare_pl.sharing.shared import Shared


class PreparedCare(NamedTuple):
    """All that a forward needs."""

    encoders: list[LinearWeights]  # all W_k at once; the V_k mixed for each group
    trunk: list[LinearWeights]  # its first layer has the context in its bias


class CareNetwork(TaskNetwork):
    """A mixture of encoders with attention from a context, and the trunk behind it.

    Args:
        spec: The sizes. ``hidden_sizes`` are those of the trunk.
        generator: Draws the initial weights.
        num_encoders: K.
        embedding_size: Size of the context z.
        encoder_size: Width of an encoder's hidden layer, and size of what it gives.

    Attributes:
        task_embedding: (M, embedding_size) the contexts.
        encoder_in: (K · encoder_size, in) the W_k one below the other.
        encoder_out: (K, encoder_size, encoder_size) the V_k.
        attention: From context to the logits of α.
        trunk: From mixture and context to the output.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        generator: torch.Generator,
        num_encoders: int = 6,
        embedding_size: int = 50,
        encoder_size: int = 50,
    ) -> None:
        super().__init__(spec.num_tasks)
        sizes = {"num_encoders": num_encoders, "embedding_size": embedding_size, "encoder_size": encoder_size}
        for name, value in sizes.items():
            check_count(name, value)
        self.activation = ACTIVATIONS[spec.activation]
        self.encoder_size = encoder_size
        gain = spec.hidden_gain
        self.task_embedding = nn.Parameter(torch.randn(spec.num_tasks, embedding_size, generator=generator))
        self.encoder_in = nn.Parameter(torch.empty(num_encoders * encoder_size, spec.in_features))
        self.encoder_in_bias = nn.Parameter(torch.zeros(num_encoders * encoder_size))
        self.encoder_out = nn.Parameter(torch.empty(num_encoders, encoder_size, encoder_size))
        self.encoder_out_bias = nn.Parameter(torch.zeros(num_encoders, encoder_size))
        for weight in (*self.encoder_in.chunk(num_encoders), *self.encoder_out.unbind()):
            orthogonal(weight, gain, generator)
        of_attention = replace(
            spec,
            in_features=embedding_size,
            hidden_sizes=(embedding_size,),
            out_features=num_encoders,
            head_gain=gain,
        )
        self.attention = TaskMLP(Shared().make_layer, of_attention, generator)
        self.trunk = TaskMLP(Shared().make_layer, replace(spec, in_features=encoder_size + embedding_size), generator)

    def attend(self, group_task: Tensor) -> Tensor:
        """The attention weights α (G, K)."""
        return self._attend(self.task_embedding[group_task], group_task)

    def _attend(self, context: Tensor, group_task: Tensor) -> Tensor:
        logits = self.attention.compute(self.attention.prepare(group_task), context.unsqueeze(1))
        return logits.squeeze(1).softmax(-1)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> PreparedCare:
        context = self.task_embedding[group_task]
        alpha = self._attend(context, group_task)
        weight = torch.einsum("gk,koi->goki", alpha, self.encoder_out).flatten(2)  # (G, out, K · in)
        bias = linear(alpha, self.encoder_out_bias.mT).unsqueeze(1)
        encoders = [LinearWeights(self.encoder_in, self.encoder_in_bias), LinearWeights(weight, bias)]
        (both, shared_bias, *_), *deeper = self.trunk.prepare(group_task)
        of_mixture, of_context = both[:, : self.encoder_size], both[:, self.encoder_size :]
        first = LinearWeights(of_mixture, linear(context, of_context, shared_bias).unsqueeze(1))
        return PreparedCare(encoders, [first, *deeper])

    def compute(self, prepared: PreparedCare, x: Tensor) -> Tensor:
        return self.trunk.compute(prepared.trunk, mlp(x, prepared.encoders, self.activation))


class Care(SharingMethod):
    """A mixture of encoders, mixed for each task by attention from its learned context.

    Args:
        num_encoders: Encoders K in the mixture; 6 as in the authors' runs of it.
        embedding_size: Size of a task's context; 50 as in the authors' code.
        encoder_size: Width of an encoder's hidden layer, 50 as in the authors' code, and size of what it gives.
    """

    name: ClassVar[str] = "care"

    def __init__(
        self, num_encoders: PositiveInt = 6, embedding_size: PositiveInt = 50, encoder_size: PositiveInt = 50
    ) -> None:
        self.num_encoders = num_encoders
        self.embedding_size = embedding_size
        self.encoder_size = encoder_size

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> CareNetwork:
        return CareNetwork(spec, generator, self.num_encoders, self.embedding_size, self.encoder_size)
