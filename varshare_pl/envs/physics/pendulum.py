"""Pendulum with the physics of each task as parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values
from varshare_pl.envs.physics.rendering import draw_pendulum

MAX_SPEED = 8.0  # rad/s
MAX_TORQUE = 2.0  # N m
DT = 0.05  # s a step
START = (math.pi, 1.0)  # angle and angular velocity start uniformly within ± these
TURN = 2 * math.pi


@dataclass(frozen=True)
class PendulumPhysics:
    """One task. The defaults are those of Gymnasium's Pendulum-v1."""

    gravity: float = 10.0  # m/s²
    mass: float = 1.0  # kg
    length: float = 1.0  # m
    mirrored: bool = False  # the torque acts the other way round

    def column(self) -> list[float]:
        """The parameters ``Pendulum.step`` unpacks, in its order."""
        inertia = 3.0 / (self.mass * self.length**2)
        return [3 * self.gravity / (2 * self.length), -inertia if self.mirrored else inertia, self.length]


class Pendulum(Dynamics):
    """Gymnasium's Pendulum: swing a pole up and hold it there.

    The state is angle (rad, 0 at the top) and angular velocity (rad/s), the observation the angle's cosine and sine and
    the angular velocity. An action is a torque (N m), clipped to ±2. Nothing terminates.

    Args:
        tasks: the physics of each task.
    """

    max_episode_steps = 200
    state_size = 2
    can_draw = True
    fps = 30

    def __init__(self, tasks: Sequence[PendulumPhysics]) -> None:
        self.table = np.array([task.column() for task in tasks]).T.copy()
        self.action_space = Box(-MAX_TORQUE, MAX_TORQUE, (1,), dtype=np.float32)
        high = np.array([1.0, 1.0, MAX_SPEED], dtype=np.float32)
        self.observation_space = Box(-high, high, dtype=np.float32)
        self._longest = max(task.length for task in tasks)

    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        return rng.uniform(np.negative(START), START, size=(count, 2))

    def step(self, state: Values, action: Value, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        # The order of operations is Gymnasium's, so that results agree to the last digits; xp for scalars too, as in
        # CartPole.
        (torque,), (angle, speed), (pull, push, _) = action, state, params
        torque = xp.clip(torque, -MAX_TORQUE, MAX_TORQUE)
        off = (angle + math.pi) % TURN - math.pi
        cost = off * off + 0.1 * (speed * speed) + 0.001 * (torque * torque)
        speed = speed + (pull * xp.sin(angle) + push * torque) * DT
        speed = xp.clip(speed, -MAX_SPEED, MAX_SPEED)
        return (angle + speed * DT, speed), -cost, False

    def observe(self, state: Values, xp: Any = np) -> Values:
        angle, speed = state
        return xp.cos(angle), xp.sin(angle), speed

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        draw_pendulum(canvas, angle=state[0], length=params[2], longest=self._longest)
