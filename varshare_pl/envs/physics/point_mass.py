"""Point masses in the plane, whose tasks turn the controls or move the goal: how much tasks differ is a dial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values
from varshare_pl.envs.physics.rendering import BLUE, GREEN, draw_disc

DAMPING = 0.85  # what is left of the velocity after a step
PUSH = 0.06  # velocity that a full control adds in a step
CONTROL_COST = 0.02
GOAL_DISTANCE = 0.7  # of goals from the origin
REACHED = 0.1  # closer than this to the goal is success
SEEN_VELOCITY = 2.0  # the observation has the velocity times this, so that all of it has about one scale


@dataclass(frozen=True)
class PointMassTask:
    """One task: where the goal is, and by how much the controls are turned; angles in degrees."""

    turn: float = 0.0
    goal: float = 0.0


class PointMass(Dynamics):
    """A double integrator in the plane: ``v ← 0.85 v + 0.06 R a``, ``x ← x + v``, R the turn of the task's controls.

    It starts at rest, uniformly in [−1, 1]², and earns ``−|x − goal| − 0.02 |a|²`` a step. Goal and turn are not
    observed. The info tells ``success``, whether it is closer than 0.1 to the goal.

    State: x and v. Observation: x and 2 v. Actions: two numbers in [−1, 1].

    Args:
        tasks: What each task is.
    """

    max_episode_steps = 40
    state_size = 4
    can_draw = True
    fps = 10
    info_names = ("success",)

    def __init__(self, tasks: Sequence[PointMassTask]) -> None:
        self.table = np.array([_column(task) for task in tasks]).T.copy()
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        # The start, and the way of a mass that is pushed outward for a whole episode.
        fastest = math.sqrt(2.0) * PUSH / (1.0 - DAMPING)
        farthest = 1.0 + fastest * self.max_episode_steps
        high = np.array([farthest, farthest, SEEN_VELOCITY * fastest, SEEN_VELOCITY * fastest], np.float32)
        self.observation_space = Box(-high, high, dtype=np.float32)

    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        states = np.zeros((count, 4))
        states[:, :2] = rng.uniform(-1.0, 1.0, (count, 2))
        return states

    def step(self, state: Values, action: Values, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        cos, sin, goal_x, goal_y = params
        x, y, v_x, v_y = state
        a_x, a_y = (xp.clip(control, -1.0, 1.0) for control in action)
        v_x = DAMPING * v_x + PUSH * (cos * a_x - sin * a_y)
        v_y = DAMPING * v_y + PUSH * (sin * a_x + cos * a_y)
        x, y = x + v_x, y + v_y
        reward = -_distance(x - goal_x, y - goal_y, xp) - CONTROL_COST * (a_x * a_x + a_y * a_y)
        return (x, y, v_x, v_y), reward, False

    def observe(self, state: Values, xp: Any = np) -> Values:
        x, y, v_x, v_y = state
        return x, y, SEEN_VELOCITY * v_x, SEEN_VELOCITY * v_y

    def info(self, state: Values, params: Values, xp: Any = np) -> Values:
        x, y, _, _ = state
        _, _, goal_x, goal_y = params
        return (_distance(x - goal_x, y - goal_y, xp) < REACHED,)

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        _, _, goal_x, goal_y = params
        x, y, _, _ = state
        draw_disc(canvas, goal_x, goal_y, REACHED, GREEN, half_width=2.0)
        draw_disc(canvas, x, y, 0.04, BLUE, half_width=2.0)


def _column(task: PointMassTask) -> list[float]:
    turn, goal = math.radians(task.turn), math.radians(task.goal)
    return [math.cos(turn), math.sin(turn), GOAL_DISTANCE * math.cos(goal), GOAL_DISTANCE * math.sin(goal)]


def _distance(x: Value, y: Value, xp: Any) -> Value:
    return xp.sqrt(x * x + y * y)
