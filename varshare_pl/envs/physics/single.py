"""One env of a built-in suite, as Gymnasium knows it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.physics.actions import single_action
from varshare_pl.envs.physics.dynamics import Dynamics, Values
from varshare_pl.envs.physics.rendering import Screen
from varshare_pl.envs.seeding import get_stream_state, restore_stream
from varshare_pl.errors import ConfigError


class DynamicsEnv(gym.Env[Any, Any]):
    """One task of a ``Dynamics``, without a time limit (``gymnasium.make`` adds it).

    Args:
        dynamics: the physics of all tasks.
        task: the task, counted from 0.
        render_mode: None, "human" or "rgb_array".

    Raises:
        ConfigError: for a task or a render mode that does not exist.
    """

    def __init__(self, dynamics: Dynamics, task: int = 0, render_mode: str | None = None) -> None:
        if isinstance(task, bool) or not isinstance(task, int | np.integer) or not 0 <= task < dynamics.num_tasks:
            raise ConfigError(f"task={task!r}: must be an integer from 0 to {dynamics.num_tasks - 1}")
        modes = ["human", "rgb_array"] if dynamics.can_draw else []
        if render_mode is not None and render_mode not in modes:
            raise ConfigError(f"render_mode={render_mode!r}: allowed: {', '.join(['None', *modes])}")
        self.metadata = {"render_modes": modes, "render_fps": dynamics.fps}
        self.observation_space = dynamics.observation_space
        self.action_space = dynamics.action_space
        self.render_mode = render_mode
        self.dynamics = dynamics
        self.task = int(task)
        self.params: Values = tuple(dynamics.table[:, task].tolist())
        self.state: Values | None = None
        self._screen: Screen | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.state = tuple(self.dynamics.initial_state(self.np_random).tolist())
        if self.render_mode == "human":
            self.render()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.state is None:
            raise gym.error.ResetNeeded("call reset before step")
        values = single_action(self.dynamics.action_space, action)
        self.state, reward, terminated = self.dynamics.step(self.state, values, self.params)
        if self.render_mode == "human":
            self.render()
        told = zip(self.dynamics.info_names, self.dynamics.info(self.state, self.params), strict=True)
        info = {name: float(value) for name, value in told}
        return self._observe(), float(reward), bool(terminated), False, info

    def _observe(self) -> NDArray[np.float32]:
        assert self.state is not None
        return np.array(self.dynamics.observe(self.state), dtype=np.float32)

    def render(self) -> NDArray[np.uint8] | None:
        """Show the state in a window, or return it as an image, (H, W, 3) uint8."""
        state = self.state
        if self.render_mode is None or state is None:
            return None
        if self._screen is None:
            self._screen = Screen(self.render_mode, self.dynamics.fps)
        return self._screen.show(lambda canvas: self.dynamics.draw(canvas, state, self.params))

    def close(self) -> None:
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def get_state(self) -> dict[str, Any]:
        """Physical state and random stream as plain data.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self.state is None:
            raise gym.error.ResetNeeded("call reset before get_state")
        return {"state": [float(value) for value in self.state], "rng": get_stream_state(self.np_random)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``get_state`` was called."""
        self.state = tuple(state["state"])
        self.np_random = restore_stream(state["rng"])


def make_single(suite: str, task: int = 0, render_mode: str | None = None, **options: Any) -> DynamicsEnv:
    """Make one task of a suite with its options; the entry point of the Gymnasium ids."""
    from varshare_pl.envs.suites import get_suite

    dynamics = get_suite({"name": suite, **options}).dynamics
    assert dynamics is not None
    return DynamicsEnv(dynamics, task, render_mode)
