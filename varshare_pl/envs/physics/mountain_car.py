"""MountainCarContinuous with the engine of each task as a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values
from varshare_pl.envs.physics.rendering import draw_mountain_car

GRAVITY = 0.0025  # per step²
LEFTMOST, GOAL, RIGHTMOST = -1.2, 0.45, 0.6
FASTEST = 0.07  # a step
MIDDLE, HALF_WIDTH, SEEN_VELOCITY = -0.5, 0.5, 0.03  # the units of the observation


class MountainCar(Dynamics):
    """Gymnasium's MountainCarContinuous with the engine of each task, for 300 steps.

    An episode ends at the goal, for 100; a control a costs 0.1 a². The info tells ``success``, whether the car is at
    the goal.

    State: position and velocity. Observation: (position + 0.5) / 0.5 and velocity / 0.03. Actions: one number in
    [−1, 1].

    Args:
        powers: Of each task's engine, velocity a step at full control; negative where its controls are reversed.
    """

    max_episode_steps = 300
    state_size = 2
    can_draw = True
    fps = 30
    info_names = ("success",)

    def __init__(self, powers: Sequence[float]) -> None:
        self.table = np.array([list(powers)])
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        low = [(LEFTMOST - MIDDLE) / HALF_WIDTH, -FASTEST / SEEN_VELOCITY]
        high = [(RIGHTMOST - MIDDLE) / HALF_WIDTH, FASTEST / SEEN_VELOCITY]
        self.observation_space = Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)

    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        states = np.zeros((count, 2))
        states[:, 0] = rng.uniform(-0.6, -0.4, count)
        return states

    def step(self, state: Values, action: Values, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        # In Gymnasium's order of operations, for the same last digits.
        (power,) = params
        position, velocity = state
        (control,) = action
        force = xp.clip(control, -1.0, 1.0)
        velocity = velocity + (force * power - GRAVITY * xp.cos(3 * position))
        velocity = xp.clip(velocity, -FASTEST, FASTEST)
        position = xp.clip(position + velocity, LEFTMOST, RIGHTMOST)
        at_wall = (position <= LEFTMOST) & (velocity < 0)
        velocity = xp.where(at_wall, 0.0, velocity)
        at_goal = (position >= GOAL) & (velocity >= 0)
        return (position, velocity), 100.0 * at_goal - 0.1 * (control * control), at_goal

    def observe(self, state: Values, xp: Any = np) -> Values:
        position, velocity = state
        return (position - MIDDLE) / HALF_WIDTH, velocity / SEEN_VELOCITY

    def info(self, state: Values, params: Values, xp: Any = np) -> Values:
        position, velocity = state
        return ((position >= GOAL) & (velocity >= 0),)

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        draw_mountain_car(canvas, state[0], LEFTMOST, GOAL, RIGHTMOST)
