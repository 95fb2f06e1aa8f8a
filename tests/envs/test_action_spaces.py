"""Box and MultiDiscrete actions: which suites have them, and how envs take them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from varshare_pl.envs import TaskSpec, TaskSuite, get_suite, make_vector_env
from varshare_pl.envs.physics.dynamics import Dynamics
from varshare_pl.envs.physics.single import DynamicsEnv
from varshare_pl.errors import ConfigError

OBS = Box(-1.0, 1.0, (2,), np.float32)
SPACES = {
    "box": Box(-2.0, 2.0, (2,)),
    "matrix": Box(np.zeros((2, 3)), np.ones((2, 3)), dtype=np.float64),
    "scalar": Box(0.0, 1.0, ()),
    "free": Box(-np.inf, np.inf, (1,)),
    "wide": Box(-3.0, 2.0, (2,)),
    "double": Box(-2.0, 2.0, (2,), np.float64),
    "integers": Box(0, 9, (2,), np.int64),
    "none": Box(0.0, 1.0, (0,)),
    "multi": MultiDiscrete([2, 3]),
    "other": MultiDiscrete([3, 2]),
    "table": MultiDiscrete([[2, 3], [4, 5]]),
    "from one": MultiDiscrete([2, 3], start=[0, 1]),
    "bits": gym.spaces.MultiBinary(3),
}


class Any(gym.Env):
    """Remembers its last action."""

    observation_space = OBS

    def __init__(self, space):
        self.action_space = SPACES[space]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.last = action
        return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def registered():
    gym.register("AnyAction-v0", Any)
    yield
    del gym.registry["AnyAction-v0"]


def suite(*spaces):
    return get_suite(
        [{"id": "AnyAction-v0", "kwargs": {"space": space}, "name": f"t {k}"} for k, space in enumerate(spaces)]
    )


@pytest.mark.parametrize("space", ["box", "matrix", "scalar", "free", "double", "multi", "table"])
def test_tasks_of_one_space(space):
    found = suite(space, space)
    assert found.action_space == SPACES[space]
    assert found.action_space is not SPACES[space]  # its random stream stays the env's own
    assert found.action_space.dtype == SPACES[space].dtype
    vec = make_vector_env(found, 4, "sync", seed=0)
    vec.reset()
    rows = np.stack([SPACES[space].sample() for _ in range(4)])
    vec.step(rows)
    for env, row in zip(vec.envs, rows, strict=True):
        np.testing.assert_array_equal(env.unwrapped.last, row)
        assert SPACES[space].contains(np.asarray(env.unwrapped.last))


@pytest.mark.parametrize("space", ["integers", "none", "from one", "bits"])
def test_a_space_that_is_not_allowed(space):
    allowed = "allowed: Discrete or MultiDiscrete actions that start at 0, or a Box of floats"
    with pytest.raises(ConfigError) as told:
        suite(space)
    assert str(told.value) == f"suite[0]: AnyAction-v0 acts in {SPACES[space]}; {allowed}"


@pytest.mark.parametrize(
    "pair", [("box", "wide"), ("box", "double"), ("box", "multi"), ("multi", "other"), ("free", "box")]
)
def test_tasks_of_different_spaces_are_refused(pair):
    first, second = (SPACES[space] for space in pair)
    with pytest.raises(ConfigError) as told:
        suite(*pair)
    hint = "; sizes that differ need pad: true" if pair == ("free", "box") else ""
    assert str(told.value) == f"suite[1]: acts in {second}, suite[0] in {first}; they must be the same{hint}"


class Echo(Dynamics):
    """Observes what was done to it: the sum of its actions, by place; ends after 5 steps."""

    table = np.ones((1, 2))
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    state_size = 2
    max_episode_steps = 5

    def __init__(self, space):
        self.action_space = space

    def initial_states(self, rng, count):
        return rng.uniform(size=(count, 2))

    def step(self, state, action, params, xp=np):
        first, second = action
        return (state[0] + params[0] * first, state[1] + second), 1.0 * first, False

    def observe(self, state, xp=np):
        return state


def echo(space):
    dynamics = Echo(space)
    gym.register("Echo-v0", lambda task=0: DynamicsEnv(dynamics, task), max_episode_steps=5)
    tasks = tuple(TaskSpec(f"t {k}", "Echo-v0", {"task": k}) for k in range(2))
    return TaskSuite("Echo", tasks, dynamics.observation_space, space, dynamics=dynamics)


@pytest.mark.parametrize("space", ["box", "multi"])
def test_backends_take_the_same_actions(space):
    made, space = echo(SPACES[space]), SPACES[space]
    try:
        space.seed(3)
        backends = [make_vector_env(made, 4, backend, seed=5) for backend in ("batched", "torch", "sync")]
        first = [vec.reset()[0] for vec in backends]
        for _ in range(12):
            actions = np.stack([space.sample() for _ in range(4)])
            steps = [vec.step(actions.copy()) for vec in backends]
            for obs, reward, _, truncated, _ in steps[1:]:
                np.testing.assert_array_equal(obs, steps[0][0])
                np.testing.assert_array_equal(reward, steps[0][1])
                np.testing.assert_array_equal(truncated, steps[0][3])
            if not truncated.any():
                np.testing.assert_allclose(steps[0][0] - first[0], actions, rtol=0, atol=1e-6)
            first = [step[0] for step in steps]
        assert backends[0].single_action_space == space
    finally:
        del gym.registry["Echo-v0"]


BAD = {
    "box": [np.zeros((4, 3)), np.zeros(4), np.full((4, 2), np.nan), np.full((4, 2), np.inf), np.full((4, 2), "a")],
    "multi": [np.zeros((4, 2)), np.zeros((3, 2), int), np.full((4, 2), 2), np.full((4, 2), -1), np.zeros(4, int)],
}


@pytest.mark.parametrize("space", BAD)
def test_bad_actions_are_one_line(space):
    made = echo(SPACES[space])
    try:
        for backend in ("batched", "torch"):
            vec = make_vector_env(made, 4, backend)
            vec.reset()
            for actions in BAD[space]:
                with pytest.raises(gym.error.InvalidAction, match=r"^actions "):
                    vec.step(actions)
        env = made.make_task(0).unwrapped
        env.reset(seed=0)
        for actions in BAD[space]:
            for action in (actions, *([] if np.shape(actions) == (3, 2) else actions[:1])):  # whose rows are good ones
                with pytest.raises(gym.error.InvalidAction, match=r"^action .* is not in "):
                    env.step(action)
    finally:
        del gym.registry["Echo-v0"]


def test_discrete_suites_are_as_they_were():
    assert get_suite("CartPole").action_space == Discrete(2)
