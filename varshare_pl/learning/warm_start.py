"""A trained network with more tasks: old tasks keep their weights and Adam's moments, new ones are added behind them.

One rule does for every method. Of a parameter with M' tasks in place of M, one axis is longer by M' − M; what was there
stays at its front. The rest starts at the mean of the old tasks, as in a new network, or at 0, as the layer's
``new_task`` says, which for buffers is "as in a new network" if it does not name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.checkpoints import CHECKPOINT_KEY
from varshare_pl.errors import ConfigError
from varshare_pl.learning.optimizer import PolicyAdam
from varshare_pl.types import EnvSpec


class WarmStart(NamedTuple):
    """What a run takes from a checkpoint."""

    new_tasks: int  # that the checkpoint does not have, M' − M
    state: dict[str, Tensor]  # a state dict with them
    optimizer: dict[str, Any] | None  # the state dict of the checkpoint's; None: the optimizer starts anew
    shapes: dict[str, torch.Size]  # of the checkpoint's tensors


def start_from(checkpoint: Mapping[str, Any], module: nn.Module, spec: EnvSpec) -> WarmStart:
    """What a run takes from a checkpoint: the weights, and where its suite has more tasks the optimizer's state too.

    Args:
        checkpoint: Loaded.
        module: The run's new network.
        spec: Of the run's suite.

    Raises:
        ConfigError: if the suite does not go on from the checkpoint's.
    """
    new_tasks, state = count_new_tasks(checkpoint, spec), checkpoint["state_dict"]
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if not new_tasks:
        return WarmStart(0, state, None, shapes)
    grown = grow_state(module, state, spec.num_tasks - new_tasks, new_tasks)
    optimizers = checkpoint.get("optimizer_states")  # a pruned checkpoint has none
    return WarmStart(new_tasks, grown, optimizers[0] if optimizers else None, shapes)


def count_new_tasks(checkpoint: Mapping[str, Any], spec: EnvSpec) -> int:
    """How many tasks a suite has beyond a checkpoint's.

    Raises:
        ConfigError: if it has fewer, or has more and does not begin with the checkpoint's.
    """
    saved = checkpoint[CHECKPOINT_KEY]
    before: int = saved["num_tasks"]
    if before == spec.num_tasks:
        return 0
    if before > spec.num_tasks:
        raise ConfigError(
            f"--init_from: the checkpoint has {before} tasks, data.suite has {spec.num_tasks}; as many or more are "
            "allowed"
        )
    if "tasks" not in saved:
        raise ConfigError(
            f"--init_from: the checkpoint, of an earlier version, does not tell its tasks; a data.suite of its "
            f"{before} tasks is allowed, one of {spec.num_tasks} is not"
        )
    for index, (old, new) in enumerate(zip(saved["tasks"], spec.tasks, strict=False)):
        if old != new:
            raise ConfigError(
                f"--init_from: data.suite must begin with the checkpoint's {before} tasks; its task {index} is "
                f"({new}), the checkpoint's is ({old})"
            )
    return spec.num_tasks - before


@torch.no_grad()
def grow_state(module: nn.Module, state: Mapping[str, Tensor], before: int, new_tasks: int) -> dict[str, Tensor]:
    """A state dict of fewer tasks with the tasks that it lacks.

    Args:
        module: A new network for all tasks.
        state: The state dict of one for fewer, of the same kind; tensors that fit no rule are left as they are.
        before: M.
        new_tasks: M' − M.

    Returns:
        A state dict for the module.
    """
    grown = dict(state)
    parameters = dict(module.named_parameters())
    for name, fresh in module.state_dict().items():
        old = state.get(name)
        axis = None if old is None else _longer_axis(old.shape, fresh.shape, new_tasks)
        if old is None or axis is None:
            continue
        owner, _, leaf = name.rpartition(".")
        rules: Mapping[str, str] = getattr(module.get_submodule(owner), "new_task", {})
        rule = rules.get(leaf, "mean" if name in parameters else "own")
        size = old.shape[axis]
        rest = fresh.narrow(axis, size, new_tasks)
        if rule == "mean":  # the tasks are the last entries of the axis
            rest = old.narrow(axis, size - before, before).mean(axis, keepdim=True).expand_as(rest)
        elif rule == "zero":
            rest = torch.zeros_like(rest)
        grown[name] = torch.cat([old.to(fresh), rest.to(fresh)], axis)
    return grown


@torch.no_grad()
def inherit_moments(optimizer: PolicyAdam, module: nn.Module, start: WarmStart) -> None:
    """Give an optimizer the moments and the count of steps of one with fewer tasks; learning rates stay its own.

    What is new in a parameter starts with a first moment of 0 and with the mean of the old second moments: with 0 there
    as well, Adam's correction for its start being over, first steps would be several times the learning rate.

    Args:
        optimizer: New.
        module: Whose parameters it trains.
        start: Has the state dict of the other optimizer, of the same groups, and the shapes that it trained.
    """
    assert start.optimizer is not None
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    numbers = {group["name"]: group["params"] for group in start.optimizer["param_groups"]}
    for group in optimizer.param_groups:
        for number, parameter in zip(numbers[group["name"]], group["params"], strict=True):
            old, own = start.optimizer["state"][number], optimizer.state[parameter]
            own["step"].copy_(old["step"])
            own["exp_avg_sq"].fill_(old["exp_avg_sq"].mean())
            front = tuple(slice(size) for size in start.shapes[names[id(parameter)]])
            for moment in ("exp_avg", "exp_avg_sq"):
                own[moment][front].copy_(old[moment])


def _longer_axis(old: Sequence[int], new: Sequence[int], by: int) -> int | None:
    """The one axis that is longer, by so much; None if there is no such axis."""
    if len(old) != len(new):
        return None
    differing = [axis for axis, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    if len(differing) != 1 or new[differing[0]] - old[differing[0]] != by:
        return None
    return differing[0]
