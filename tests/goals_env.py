"""An env whose info tells a score at each step, and which keeps a list of them for tests; ``goals_env:Goals-v0``."""

from copy import copy
from typing import Any, ClassVar

import gymnasium
import numpy as np


class Goals(gymnasium.Env[Any, Any]):
    """Episodes of 2 to 6 steps with a random score of -1, 0 or 1 at each; action 1 adds 1 to the reward.

    Args:
        task: Tells the tasks apart; the score of task 1 is lower.
        tells: "always", at the "last" step only, "never", or "odd": in every other episode.
        value: Told in place of the score.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    # Task and scores of each episode in this process, in the order in which they began and ended.
    begun: ClassVar[list[tuple[int, list[float]]]] = []
    ended: ClassVar[list[tuple[int, list[float]]]] = []

    def __init__(self, task: int = 0, tells: str = "always", value: Any = None) -> None:
        self.task, self.tells, self.value = task, tells, value
        self.episode, self.scores, self.length = -1, list[float](), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.scores = self.episode + 1, []
        self.length = int(self.np_random.integers(2, 7))
        Goals.begun.append((self.task, self.scores))
        return np.zeros(1, np.float32), {"score": 77.0}  # belongs to no step

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.scores.append(float(self.np_random.integers(-1, 2)) - self.task)
        done = len(self.scores) == self.length
        if done:
            Goals.ended.append((self.task, self.scores))
        told = {"always": True, "last": done, "never": False, "odd": self.episode % 2 == 1}[self.tells]
        info = {"score": self.scores[-1] if self.value is None else copy(self.value)} if told else {"other": 1}
        return np.zeros(1, np.float32), float(action == 1), done, False, info

    def get_state(self) -> dict[str, Any]:
        return {"episode": self.episode, "scores": list(self.scores), "length": self.length}

    def set_state(self, state: dict[str, Any]) -> None:
        self.episode, self.scores, self.length = state["episode"], list(state["scores"]), state["length"]


gymnasium.register("Goals-v0", Goals)
