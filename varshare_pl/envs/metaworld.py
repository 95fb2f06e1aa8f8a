"""Meta-World's multi-task suites: real Meta-World 3, in the protocol of Meta-World+.

Meta-World+: An Improved, Standardized, RL Benchmark (McLean et al. 2025, arXiv 2505.11289): episodes of 500 steps that
end by truncation only, 50 goals a task, one of them at each reset, the goal observed, success where ``info["success"]``
was 1 at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from varshare_pl.envs.extras import need
from varshare_pl.envs.foreign_state import teller_of
from varshare_pl.envs.plain import as_plain, from_plain
from varshare_pl.envs.seeding import new_stream
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSpec, TaskSuite
from varshare_pl.errors import ConfigError

Benchmark = Literal["MT3", "MT5-fast", "MT10", "MT50"]
RewardVersion = Literal["v1", "v2"]

ENV_ID = "varshare_pl/MetaWorld-v3"
HORIZON = 500
GOALS = 50  # of a task
CAMERA = "corner2"  # stands on its head, as all of Meta-World's corner cameras do
PICTURE = 240  # pixels, of each side

_MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close", "button-press-topdown"),
    *("peg-insert-side", "window-open", "window-close"),
)
TASKS = (
    *("assembly", "basketball", "bin-picking", "box-close", "button-press-topdown", "button-press-topdown-wall"),
    *("button-press", "button-press-wall", "coffee-button", "coffee-pull", "coffee-push", "dial-turn", "disassemble"),
    *("door-close", "door-lock", "door-open", "door-unlock", "hand-insert", "drawer-close", "drawer-open"),
    *("faucet-open", "faucet-close", "hammer", "handle-press-side", "handle-press", "handle-pull-side", "handle-pull"),
    *("lever-pull", "pick-place-wall", "pick-out-of-hole", "pick-place", "plate-slide", "plate-slide-side"),
    *("plate-slide-back", "plate-slide-back-side", "peg-insert-side", "peg-unplug-side", "soccer", "stick-push"),
    *("stick-pull", "push", "push-wall", "push-back", "reach", "reach-wall", "shelf-place", "sweep-into", "sweep"),
    *("window-open", "window-close"),
)
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "MT3": ("reach", "push", "pick-place"),
    "MT5-fast": ("reach", "drawer-close", "button-press-topdown", "window-open", "window-close"),
    "MT10": _MT10,
    "MT50": TASKS,
}

_OBSERVATIONS = Box(-np.inf, np.inf, (39,), np.float64)


def metaworld(
    benchmark: Benchmark = "MT10",
    reward_version: RewardVersion = "v2",
    horizon: int = HORIZON,
    goal_seed: int = 0,
    solved: float = 0.9,
) -> TaskSuite:
    """Make one of Meta-World's multi-task suites.

    Args:
        benchmark: MT10 and MT50 are Meta-World's; MT3 is its reach, push and pick-place; MT5-fast are five tasks that
            are soon solved.
        reward_version: v2 (0 to 10 a step) or v1. Results of one are not comparable with those of the other.
        horizon: Steps of an episode, at most 500, which is the protocol's.
        goal_seed: Decides the 50 goals of each task; the run's seed decides which of them an episode gets.
        solved: A task is solved where the mean success is at least this.

    Raises:
        ConfigError: for a number out of its range, or where Meta-World is not installed.
    """
    if not 1 <= horizon <= HORIZON:
        raise ConfigError(f"suite.horizon: {horizon} is not allowed; an integer from 1 to {HORIZON} is")
    if goal_seed < 0:
        raise ConfigError(f"suite.goal_seed: {goal_seed} is not allowed; an integer of at least 0 is")
    if not 0 < solved <= 1:
        raise ConfigError(f"suite.solved: {solved} is not allowed; a number above 0, up to 1, is")
    need("metaworld", "metaworld", "MetaWorld", load=False)
    how = {"reward_version": reward_version, "goal_seed": goal_seed, "max_episode_steps": horizon}
    names = BENCHMARKS[benchmark]
    actions: Any = Box(-1.0, 1.0, (4,), np.float32)
    return TaskSuite(
        name=_name(benchmark, reward_version, horizon, goal_seed),
        tasks=tuple(TaskSpec(name, ENV_ID, {"task": name, **how}) for name in names),
        observation_space=_OBSERVATIONS,
        action_space=actions,
        success=SuccessMeasure(info="success", reduce="any", solved=float(solved)),
        protocol=f"Meta-World {version('metaworld')}, MuJoCo {version('mujoco')}, reward {reward_version}, "
        f"horizon {horizon}, {GOALS} goals a task (goal_seed {goal_seed}), success at any step",
    )


def _name(benchmark: str, reward_version: str, horizon: int, goal_seed: int) -> str:
    """The suite's name, with what makes its results incomparable."""
    parts = [f"MetaWorld{benchmark}"]
    parts += [reward_version] if reward_version != "v2" else []
    parts += [f"{horizon}_steps"] if horizon != HORIZON else []
    parts += [f"goals_{goal_seed}"] if goal_seed else []
    return "_".join(parts)


def _check(key: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: {value!r} is not allowed; allowed: {', '.join(allowed)}")


class GoalAtReset(gym.Wrapper[Any, Any, Any, Any]):
    """A task that takes one of its goals at each reset, by the env's own random stream, and is drawn upright.

    Meta-World's own wrappers ignore ``reset(seed=…)``, and its resets leave some of the episode before: the hand goes
    to its start while doors and goals still stand where they were. With a seed all is first put back to where it was
    when the env was made.

    Args:
        env: One of Meta-World's.
        goals: (G, D) float64, what decides start positions and goal in it.
    """

    def __init__(self, env: gym.Env[Any, Any], goals: NDArray[np.float64]) -> None:
        super().__init__(env)
        # Meta-World's own bounds say that the goal is 0, which is so only where it is hidden.
        self.observation_space = _OBSERVATIONS
        self.goals = goals
        teller = teller_of(env.unwrapped)
        assert teller is not None
        self._teller, self._made = teller, as_plain(teller.get_state())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        core: Any = self.env.unwrapped
        if seed is not None:
            self._teller.set_state(from_plain(self._made))
            core.np_random = new_stream(seed)
        core._last_rand_vec = self.goals[core.np_random.integers(len(self.goals))].copy()
        return self.env.reset(options=options)

    def get_state(self) -> dict[str, Any]:
        """Nothing: all that it remembers is the same in every env of the task."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing is left to do."""

    def render(self) -> Any:
        image: Any = self.env.render()
        return np.rot90(image, 2) if isinstance(image, np.ndarray) else image


def make_env(
    task: str = "reach", reward_version: RewardVersion = "v2", goal_seed: int = 0, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """Make the env of one task: observations Box(39) float64 with the goal in them, actions Box(−1, 1, 4).

    Args:
        task: one of ``TASKS``.
        reward_version: "v1" or "v2".
        goal_seed: decides its 50 goals.
        render_mode: as in ``gymnasium.make``.

    Raises:
        ConfigError: for a value that is not allowed, or where Meta-World is not installed.
    """
    _check("kwargs.task", task, TASKS)
    _check("kwargs.reward_version", reward_version, ("v1", "v2"))
    need("metaworld", "metaworld", "MetaWorld")
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    drawn: dict[str, Any] = {}
    if render_mode is not None:
        drawn = {"render_mode": render_mode, "camera_name": CAMERA, "width": PICTURE, "height": PICTURE}
    env: Any = ALL_V3_ENVIRONMENTS[f"{task}-v3"](reward_function_version=reward_version, **drawn)
    env._partially_observable = False
    del env.sawyer_observation_space  # cached as it is with the goal hidden
    env._set_task_called = True
    goals = _draw_goals(env, np.random.SeedSequence([goal_seed, TASKS.index(task)]))
    return GoalAtReset(env, goals)


def _draw_goals(env: Any, seed: np.random.SeedSequence) -> NDArray[np.float64]:
    """As Meta-World draws them, from a stream of the task's own: what 50 resets draw; (50, D) float64."""
    env.np_random = np.random.Generator(np.random.PCG64(seed))
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    reset_hand = env._reset_hand
    env._reset_hand = partial(reset_hand, steps=1)  # the hand's way to its start takes long and draws nothing
    goals = np.empty((GOALS, env._random_reset_space.low.size))
    for goal in goals:
        env.reset()
        goal[:] = env._last_rand_vec
    del env._reset_hand
    env._freeze_rand_vec, env.seeded_rand_vec = True, False
    return goals
