"""Acting and stepping as machine code: a chunk of steps of all envs in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from varshare_pl.compilation.functions import Compiled, compile_function
from varshare_pl.envs.torch_backend import EnvState, TorchVectorEnv
from varshare_pl.networks.groups import TaskGroups

LONGEST = 8  # steps in a chunk: what compiling takes grows with it


class CompilablePolicy(Protocol):
    """A policy whose acting is a pure function of tensors."""

    def tensors(self, groups: TaskGroups) -> list[Tensor]:
        """The weights that act for the envs of these groups."""
        ...

    def act_with(
        self, tensors: Sequence[Tensor], obs: Tensor, groups: TaskGroups, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Actions and distribution parameters for observations (N, *obs), with weights from ``tensors``."""
        ...

    def to_env(self, actions: Tensor) -> Tensor:
        """What the envs get for actions (N, *action)."""
        ...


class Steps(NamedTuple):
    """What T steps of N envs gave."""

    obs: Tensor  # (T, N, D) float32, what the policy saw
    actions: Tensor  # (T, N, *action)
    params: Tensor  # (T, N, P)
    rewards: Tensor  # (T, N) float32
    terminated: Tensor  # (T, N) bool
    truncated: Tensor  # (T, N) bool
    final_obs: Tensor  # (T, N, D)
    returns: Tensor  # (T, N) float64, of the episode up to and with this step
    lengths: Tensor  # (T, N) int64
    told: Tensor  # (T, K, N) float64, the numbers of the dynamics' ``info_names``


class CompiledActing:
    """Steps envs that keep their tasks with a policy whose weights stand still.

    Args:
        envs: They go on from one call to the next.
        groups: The envs grouped by their tasks.
    """

    def __init__(self, envs: TorchVectorEnv, groups: TaskGroups) -> None:
        self._envs = envs
        self._groups = groups
        self._functions: dict[int, Compiled] = {}

    def __call__(
        self, policy: CompilablePolicy, obs: Tensor, returns: Tensor, lengths: Tensor, noise: Tensor
    ) -> tuple[Tensor, Steps]:
        """As many steps as there is noise for; gives the observation after them, too.

        Args:
            policy: Acts.
            obs: (N, D) to begin with.
            returns: (N,) float64, of the episodes under way.
            lengths: (N,) int64.
            noise: (T, N, …) for the actions.
        """
        total = len(noise)
        size = next(n for n in range(min(LONGEST, total), 0, -1) if total % n == 0)
        weights = policy.tensors(self._groups)
        parts = []
        for start in range(0, total, size):
            self._envs.refill(size)
            state = self._envs.env_state
            arguments = [*_flat(state), obs, returns, lengths, noise[start : start + size].contiguous(), *weights]
            if size not in self._functions:
                self._functions[size] = self._compile(policy, arguments, len(state.physics))
            outputs = self._functions[size](*arguments)
            known = len(_flat(state)) - 1  # all but the fresh states, which no step changes
            self._envs.env_state = _state([*outputs[:known], state.fresh], len(state.physics))
            obs, returns, lengths = outputs[known : known + 3]
            parts.append(outputs[known + 3 :])
        return obs, Steps(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _compile(self, policy: CompilablePolicy, arguments: Sequence[Tensor], physics: int) -> Compiled:
        held = physics + 5

        def chunk(*arguments: Tensor) -> list[Tensor]:
            state = _state(arguments[:held], physics)
            obs, returns, lengths, noise, *weights = arguments[held:]
            steps = []
            for step_noise in noise:
                action, params = policy.act_with(weights, obs, self._groups, step_noise)
                state, result = self._envs.transition(state, policy.to_env(action))
                returns, lengths = returns + result.reward, lengths + 1
                reward = result.reward.to(torch.float32)
                ends = (result.terminated, result.truncated, result.final_obs)
                steps.append(Steps(obs, action, params, reward, *ends, returns, lengths, result.told))
                done = result.terminated | result.truncated
                obs = result.obs
                returns, lengths = torch.where(done, 0.0, returns), torch.where(done, 0, lengths)
            stacked = (torch.stack(column) for column in zip(*steps, strict=True))
            return [*_flat(state)[:-1], obs, returns, lengths, *stacked]

        return compile_function(chunk, arguments, "acting")


def _flat(state: EnvState) -> list[Tensor]:
    return [*state.physics, state.steps, state.task, state.params, state.used, state.fresh]


def _state(tensors: Sequence[Tensor], physics: int) -> EnvState:
    steps, task, params, used, fresh = tensors[physics:]
    return EnvState(tuple(tensors[:physics]), steps, task, params, fresh, used)
