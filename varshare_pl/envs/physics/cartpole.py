"""CartPole with the physics of each task as parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values
from varshare_pl.envs.physics.rendering import draw_cartpole

FORCE = 10.0  # N
TAU = 0.02  # s a step
START = 0.05  # every state variable starts uniformly in ±START


@dataclass(frozen=True)
class CartPolePhysics:
    """One task. The defaults are those of Gymnasium's CartPole-v1."""

    gravity: float = 9.8  # m/s²
    cart_mass: float = 1.0  # kg
    pole_mass: float = 0.1  # kg
    half_length: float = 0.5  # m, half the pole
    x_limit: float = 2.4  # m, the episode terminates beyond ±x_limit
    angle_limit: float = 12.0  # degrees, the episode terminates beyond ±angle_limit
    swapped: bool = False  # action 0 pushes right and 1 left

    @property
    def angle_limit_rad(self) -> float:
        return self.angle_limit * 2 * math.pi / 360  # in Gymnasium's order, for the same last digit

    def column(self) -> list[float]:
        """The parameters ``CartPole.step`` unpacks, in its order."""
        return [
            self.gravity,
            self.pole_mass,
            self.pole_mass + self.cart_mass,
            self.pole_mass * self.half_length,
            self.half_length,
            self.x_limit,
            self.angle_limit_rad,
            # Times (action − ½) this is the force: −FORCE for 0 and FORCE for 1, or the other way round.
            -2 * FORCE if self.swapped else 2 * FORCE,
            # Constants, here because NumPy multiplies an array by another one in half the time that a number takes.
            0.5,
            4.0 / 3.0,
            TAU,
        ]


class CartPole(Dynamics):
    """Gymnasium's CartPole (explicit Euler, reward 1 a step, the terminating one included).

    State and observation: position (m), velocity (m/s), angle (rad), angular velocity (rad/s).

    Args:
        tasks: the physics of each task.
    """

    max_episode_steps = 500
    state_size = 4
    can_draw = True

    def __init__(self, tasks: Sequence[CartPolePhysics]) -> None:
        self.tasks = tuple(tasks)
        self.table = np.array([task.column() for task in self.tasks]).T.copy()
        self.action_space = Discrete(2)
        # Twice the limits, as in Gymnasium, so that the last observation is inside. Velocities have no limit; the
        # largest float32 stands for it because Gymnasium's checker warns of infinite bounds.
        free = float(np.finfo(np.float32).max)
        widest_x = max(task.x_limit for task in self.tasks)
        widest_angle = max(task.angle_limit_rad for task in self.tasks)
        high = np.array([2 * widest_x, free, 2 * widest_angle, free], dtype=np.float32)
        self.observation_space = Box(-high, high, dtype=np.float32)

    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        return rng.uniform(-START, START, size=(count, 4))

    def step(self, state: Values, action: Value, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        # The order of operations is Gymnasium's, so that results agree to the last digits. np.cos and np.sin also
        # for scalars: math's differ from them in the last digit, and a single env must follow the batch exactly.
        gravity, pole_mass, total_mass, pole_mass_length, half_length, x_limit, angle_limit, *rest = params
        push, half, four_thirds, tau = rest
        x, x_dot, theta, theta_dot = state
        cos, sin = xp.cos(theta), xp.sin(theta)
        temp = (push * (action - half) + pole_mass_length * (theta_dot * theta_dot) * sin) / total_mass
        theta_acc = (gravity * sin - cos * temp) / (half_length * (four_thirds - pole_mass * (cos * cos) / total_mass))
        x_acc = temp - pole_mass_length * theta_acc * cos / total_mass
        x = x + tau * x_dot
        x_dot = x_dot + tau * x_acc
        theta = theta + tau * theta_dot
        theta_dot = theta_dot + tau * theta_acc
        terminated = (abs(x) > x_limit) | (abs(theta) > angle_limit)
        return (x, x_dot, theta, theta_dot), 1.0, terminated

    def observe(self, state: Values, xp: Any = np) -> Values:
        return state

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        widest = max(task.x_limit for task in self.tasks)
        draw_cartpole(canvas, x=state[0], angle=state[2], half_length=params[4], x_limit=params[5], widest=widest)
