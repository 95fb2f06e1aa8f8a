"""Episodes of all tasks in lockstep, with a picture of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from varshare_pl.envs import TaskSuite
from varshare_pl.envs.foreign_state import family_of
from varshare_pl.envs.task_env import TaskEnv
from varshare_pl.errors import ConfigError
from varshare_pl.random import stream, stream_seed
from varshare_pl.trained.play.opengl import choose_opengl, make_current
from varshare_pl.trained.policy import TrainedPolicy

USUAL_FPS = 30.0  # of envs that don't say
LONGEST_EPISODE = 2000
"""Steps after which an episode is cut, unless told otherwise: a policy may never end one, and all steps are drawn."""


@dataclass
class Panel:
    """What is shown of one task at one moment."""

    name: str
    image: NDArray[np.uint8]  # (H, W, 3)
    step: int  # of the episode
    episode_return: float
    ended: bool  # the task's last episode is over


class _Player:
    """One task: its env and where its episode is."""

    def __init__(self, suite: TaskSuite, task: int, episodes: int, seed: int, max_steps: int) -> None:
        self.name = suite.tasks[task].name
        self.env = _make(suite, task)
        self.panel: Panel | None = None
        self.obs: NDArray[Any]
        self._left = episodes
        self._max_steps = max_steps
        self.cuts = 0  # episodes that the limit ended
        self._seed: int | None = stream_seed(seed, "play", task)
        self.step, self.episode_return, self.over = 0, 0.0, True

    @property
    def ended(self) -> bool:
        """Whether the last episode is over."""
        return self.over and not self._left

    def begin(self) -> None:
        """Start an episode; the seed decides the first one, and through the env's own stream the others."""
        self.obs, _ = self.env.reset(seed=self._seed)
        self._seed, self._left = None, self._left - 1
        self.step, self.episode_return, self.over = 0, 0.0, False

    def act(self, action: Any) -> None:
        self.obs, reward, terminated, truncated, _ = self.env.step(action)
        self.step += 1
        self.episode_return += reward
        cut = not (terminated or truncated) and self.step >= self._max_steps
        self.cuts += cut
        self.over = terminated or truncated or cut

    def look(self) -> Panel:
        """The panel of this moment; after the last episode it stays as it is."""
        if self.panel is None or not self.panel.ended:
            try:
                make_current(self.env)
                image: Any = self.env.render()
            except DependencyNotInstalled as error:
                raise ConfigError(f"play: {error}") from error
            except Exception as error:  # whatever a foreign env, or a driver, raises
                text = " ".join(str(error).split())
                raise ConfigError(f"play: the task {self.name!r} cannot be drawn: {text}") from error
            if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ConfigError(f"play: the task {self.name!r} cannot be drawn: its env gives no image")
            if image.dtype != np.uint8:
                raise ConfigError(
                    f"play: the task {self.name!r} cannot be drawn: its env gives an image of {image.dtype} at step "
                    f"{self.step}; uint8 is allowed"
                )
            self.panel = Panel(self.name, image.copy(), self.step, self.episode_return, self.ended)
        return self.panel


class Episodes:
    """Episodes of every task of a policy's suite, side by side.

    Args:
        policy: Acts.
        episodes: Of each task, one after the other.
        seed: Decides start states and drawn actions.
        stochastic: Draw actions from their distributions instead of taking the most likely ones.
        max_steps: Cut an episode after so many.

    Raises:
        ConfigError: if an env cannot be drawn.
    """

    def __init__(
        self,
        policy: TrainedPolicy,
        episodes: int,
        seed: int,
        stochastic: bool = False,
        max_steps: int = LONGEST_EPISODE,
    ) -> None:
        self._policy = policy
        self._generator = stream(seed, "play/actions") if stochastic else None
        self._players: list[_Player] = []
        try:
            for task in range(policy.suite.num_tasks):
                self._players.append(_Player(policy.suite, task, episodes, seed, max_steps))
        except BaseException:
            self.close()
            raise

    @property
    def fps(self) -> float:
        """Env steps in a second of the envs' own time; of the first task, if they differ."""
        return float(self._players[0].env.metadata.get("render_fps") or USUAL_FPS)

    @property
    def cuts(self) -> int:
        """How many episodes the limit of steps has ended so far."""
        return sum(player.cuts for player in self._players)

    def panels(self, every: int) -> Iterator[list[Panel]]:
        """One panel a task, at each ``every``-th step until all episodes are over."""
        for player in self._players:
            player.begin()
        yield [player.look() for player in self._players]
        time = 0
        while not all(player.ended for player in self._players):
            time += 1
            self._step()
            if time % every == 0 or all(player.ended for player in self._players):
                yield [player.look() for player in self._players]

    def _step(self) -> None:
        tasks = [task for task, player in enumerate(self._players) if not player.ended]
        for task in tasks:
            if self._players[task].over:
                self._players[task].begin()
        obs = np.stack([self._players[task].obs for task in tasks])
        actions = self._policy(obs, tasks, generator=self._generator)
        for task, action in zip(tasks, actions, strict=True):
            self._players[task].act(action)

    def close(self) -> None:
        """Close all envs."""
        for player in self._players:
            player.env.close()


def _make(suite: TaskSuite, task: int) -> TaskEnv:
    name = suite.tasks[task].name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns of what is told below
            env = TaskEnv(suite, task, env_index=task, render_mode="rgb_array")
    except Exception as error:  # whatever a foreign constructor raises
        raise ConfigError(f"play: the task {name!r} cannot be drawn: {' '.join(str(error).split())}") from error
    if env.render_mode != "rgb_array":
        env.close()
        raise ConfigError(f"play: the task {name!r} cannot be drawn: its env knows no render_mode rgb_array")
    if family_of(env.unwrapped) == "mujoco":
        choose_opengl()
    return env
