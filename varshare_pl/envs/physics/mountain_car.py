"""MountainCarLadder: ever weaker engines; each finds the goal only by what the one before has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values
from varshare_pl.envs.physics.rendering import draw_mountain_car

GRAVITY = 0.0025  # per step²
LEFTMOST, GOAL, RIGHTMOST = -1.2, 0.45, 0.6
FASTEST = 0.07  # a step
MIDDLE, HALF_WIDTH, SEEN_VELOCITY = -0.5, 0.5, 0.03  # the units of the observation
POWERS = (0.004, 0.0025, 0.0018, 0.0014, 0.0011, 0.0009)  # of the rungs, strongest first


@dataclass(frozen=True)
class Engine:
    """One task: the power of the engine (velocity a step at full control), negative where its controls are reversed."""

    power: float


class MountainCarLadder(Dynamics):
    """Gymnasium's MountainCarContinuous with the engine of each task, and 300 steps.

    An episode ends at the goal, for 100; a control a costs 0.1 a². The info tells ``success``, whether the car is at
    the goal.

    State: position and velocity. Observation: (position + 0.5) / 0.5 and velocity / 0.03. Actions: one number in
    [−1, 1].

    Args:
        engines: Of each task.
    """

    max_episode_steps = 300
    state_size = 2
    can_draw = True
    fps = 30
    info_names = ("success",)

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.table = np.array([[engine.power for engine in engines]])
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
        velocity = velocity + (control * power - GRAVITY * xp.cos(3 * position))
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


def ladder(mirrored: bool) -> dict[str, Engine]:
    """The tasks: six rungs, or three of them with the controls as they are and reversed."""
    if not mirrored:
        return {f"engine {power:g}": Engine(power) for power in POWERS}
    signed = [sign * power for sign in (1, -1) for power in POWERS[::2]]
    return {f"engine {abs(power):g}{', reversed' if power < 0 else ''}": Engine(power) for power in signed}
