"""Bad input: one line that names the key, the value and what is allowed."""

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_state, get_suite, make_vector_env, set_state
from varshare_pl.errors import ConfigError

CARTPOLE = {"id": "CartPole-v1"}

SUITES = [
    ("CartPol", "suite='CartPol': unknown (did you mean 'CartPole'?); allowed: CartPole, ComplexCartPole"),
    ("xyz", "suite='xyz': unknown; allowed:"),
    ([], "suite=[]: must be a name or a list"),
    (3, "suite=3: must be a name or a list"),
    ([3], "suite[0]=3: must be a GymTask or a dict with the keys id, kwargs"),
    ([CARTPOLE, {"name": "x"}], "suite[1].id: missing"),
    ([{"id": 3}], "suite[0].id=3: must be a Gymnasium id"),
    ([{"id": "CartPole-v1", "kwarg": {}}], "suite[0].kwarg: unknown key; allowed: id, kwargs, attributes, name"),
    ([{"id": "CartPole-v1", "kwargs": [1]}], "suite[0].kwargs=[1]: must be a dict"),
    ([{"id": "CartPole-v1", "attributes": {1: 2}}], "suite[0].attributes={1: 2}: must be a dict with strings"),
    ([CARTPOLE, {"id": "NoSuchEnv-v1"}], "suite[1]: cannot make 'NoSuchEnv-v1'"),
    ([{"id": "no_such_module:Env-v1"}], "suite[0]: cannot make 'no_such_module:Env-v1'"),
    ([{"id": "CartPole-v1", "kwargs": {"mass": 2}}], "suite[0]: cannot make 'CartPole-v1' with {'mass': 2}"),
    ([{"id": "varshare_pl/CartPole-v0", "kwargs": {"task": 9}}], "task=9: must be an integer from 0 to 0"),
    ([{"id": "CartPole-v1", "attributes": {"lenght": 2}}], "suite[0].attributes.lenght: CartPole-v1 has no attribute"),
    ([{"id": "CartPole-v1", "attributes": {"unwrapped": 2}}], "suite[0].attributes.unwrapped: CartPole-v1 does not"),
    ([{"id": "Empty-v0"}], "suite[0]: Empty-v0 observes a Box of shape (0,); allowed: one without an axis of length 0"),
    ([{"id": "Hollow-v0"}], "suite[0]: Hollow-v0 observes a Box of shape (2, 0); allowed: one without an axis"),
    ([{"id": "Graph-v0"}], "suite[0]: Graph-v0 observes Graph("),
    (
        [CARTPOLE, {"id": "CartPole-v1", "name": "CartPole-v1"}],
        "suite[1].name='CartPole-v1': another task has that name",
    ),
    (
        [CARTPOLE, {"id": "Acrobot-v1"}],
        "suite[1]: observations have shape (6,), those of suite[0] (4,); vectors of several lengths need pad: true",
    ),
    ([CARTPOLE, {"id": "Pendulum-v1"}], "suite[1]: observations have shape (3,), those of suite[0] (4,)"),
    (
        {"tasks": [CARTPOLE, {"id": "Pendulum-v1"}], "pad": True},
        "suite[1]: acts in Box(-2.0, 2.0, (1,), float32), ",
    ),
    (
        [CARTPOLE, {"id": "Three-v0"}],
        "suite[1]: acts in Discrete(3), suite[0] in Discrete(2); they must be the same",
    ),
    ([{"id": "FromOne-v0"}], "suite[0]: FromOne-v0 acts in Discrete(2, start=1); allowed: Discrete or MultiDiscrete"),
    ({}, "suite: has neither tasks nor name; allowed: CartPole, ComplexCartPole"),
    ({"name": "CartPol"}, "suite='CartPol': unknown (did you mean 'CartPole'?)"),
    ({"name": "CartPole", "gravity": 9.8}, "suite.gravity: unknown option of CartPole; allowed: none"),
    (
        {"name": "CartPole", "wrappers": []},
        "unknown option of CartPole; allowed: none; a suite of your own has the key",
    ),
    ({"name": "MiniGrid", "benchmark": "MT4"}, "suite.benchmark='MT4': allowed: MT3, MT5, MT7"),
    ({"name": "LunarLander", "mirrored": 1}, "suite.mirrored=1: allowed: true, false"),
    ({"tasks": []}, "suite=[]: must be a name or a list"),
    ({"tasks": "CartPole-v1"}, "suite='CartPole-v1': must be a name or a list"),
    ({"tasks": [CARTPOLE], "wrapper": []}, "suite.wrapper: unknown key; allowed: name, tasks, wrappers, time_limit"),
    ({"tasks": [CARTPOLE], "name": 3}, "suite.name=3: must be a text of letters"),
    ({"tasks": [CARTPOLE], "name": "../x"}, "suite.name='../x': must be a text of letters"),
    ({"tasks": [CARTPOLE], "pad": "yes"}, "suite.pad='yes': must be true or false"),
    ({"tasks": [CARTPOLE], "time_limit": 0}, "suite.time_limit=0: must be a number of steps of at least 1"),
    ([CARTPOLE | {"time_limit": 2.5}], "suite[0].time_limit=2.5: must be a number of steps of at least 1"),
    (
        {"tasks": [CARTPOLE | {"kwargs": {"max_episode_steps": 9}}], "time_limit": 9},
        "suite[0].kwargs.max_episode_steps: not allowed beside time_limit",
    ),
    ([CARTPOLE | {"wrappers": "x.Y"}], "suite[0].wrappers='x.Y': must be a list of import paths"),
    ([CARTPOLE | {"wrappers": [3]}], "suite[0].wrappers[0]=3: must be an import path"),
    ([CARTPOLE | {"wrappers": [{"a.B": {}, "c.D": {}}]}], "suite[0].wrappers[0]={'a.B': {}, 'c.D': {}}: must be an"),
    ([CARTPOLE | {"wrappers": [{"a.B": 3}]}], "suite[0].wrappers[0].a.B=3: must be a dict with strings as keys"),
    ({"tasks": [CARTPOLE], "wrappers": ["no_such.Wrapper"]}, "suite.wrappers[0]: 'no_such.Wrapper' cannot be imported"),
    ({"tasks": [CARTPOLE], "wrappers": ["Wrapper"]}, "suite.wrappers[0]: 'Wrapper' cannot be imported"),
    (
        {"tasks": [CARTPOLE], "wrappers": ["os.system"]},
        "'os.system' is not allowed; a subclass of gymnasium.Wrapper is",
    ),
    (
        {"tasks": [CARTPOLE], "wrappers": [{"gymnasium.wrappers.FrameStackObservation": {"stack_size": -1}}]},
        "suite[0].wrappers: gymnasium.wrappers.FrameStackObservation with {'stack_size': -1} raised ValueError: ",
    ),
    ({"tasks": [CARTPOLE], "success": {}}, "suite.success={}: must be a dict with the keys info, reduce, solved"),
    ({"tasks": [CARTPOLE], "success": {"key": "x"}}, "suite.success.key: unknown key; allowed: info, reduce, solved"),
    ({"tasks": [CARTPOLE], "success": {"info": 3}}, "suite.success.info=3: must be a key of the env's info"),
    (
        {"tasks": [CARTPOLE], "success": {"info": "x", "reduce": "sum"}},
        "suite.success.reduce='sum': allowed: any, last, max, mean",
    ),
    ({"tasks": [CARTPOLE], "success": {"reduce": "max"}}, "suite.success.reduce='max': has a meaning only with info"),
    ({"tasks": [CARTPOLE], "success": {"solved": "much"}}, "suite.success.solved='much': must be a finite number"),
    (
        {"tasks": [CARTPOLE], "anchors": {"low": 0}},
        "suite.anchors={'low': 0}: must be a dict with the keys low and high",
    ),
    (
        {"tasks": [CARTPOLE], "anchors": {"low": 0, "high": [1, 2]}},
        "suite.anchors.high=[1, 2]: must be a finite number",
    ),
    ({"tasks": [CARTPOLE], "anchors": {"low": 1, "high": 1}}, "low is 1 and high 1 for task 0; low must be below high"),
    (
        {"tasks": [CARTPOLE, {"id": "Grid-v0"}], "pad": True},
        "suite[1]: observations have shape (2, 2), those of suite[0] (4,); only vectors can be padded",
    ),
]


class Spaces(gym.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.fixture(autouse=True)
def _odd_envs():
    box = gym.spaces.Box(-1, 1, (4,), dtype=np.float32)
    spaces = {
        "Graph-v0": (gym.spaces.Graph(box, None), gym.spaces.Discrete(2)),
        "Grid-v0": (gym.spaces.Box(0, 9, (2, 2), dtype=np.int64), gym.spaces.Discrete(2)),
        "Three-v0": (box, gym.spaces.Discrete(3)),
        "FromOne-v0": (box, gym.spaces.Discrete(2, start=1)),
    }
    for name, shape in (("Empty-v0", (0,)), ("Hollow-v0", (2, 0))):
        spaces[name] = (gym.spaces.Box(-1, 1, shape, dtype=np.float32), gym.spaces.Discrete(2))
    for name, (obs, actions) in spaces.items():
        kwargs = {"observation_space": obs, "action_space": actions}
        gym.register(name, entry_point=Spaces, kwargs=kwargs)
    yield
    for name in spaces:
        del gym.registry[name]


def assert_one_line(error, text):
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("suite", "text"), SUITES)
def test_bad_suites(suite, text):
    with pytest.raises(ConfigError) as error:
        get_suite(suite)
    assert_one_line(error, text)


VECTORS = [
    ({"num_envs": 0}, "num_envs=0: must be an integer of at least 1"),
    ({"num_envs": 2.0}, "num_envs=2.0: must be an integer"),
    ({"backend": "fast"}, "backend='fast': allowed: auto, batched, torch, sync, workers"),
    ({"backend": "batched", "suite": [CARTPOLE]}, "backend='batched': CartPole-v1 has no batched physics"),
    ({"backend": "torch", "suite": [CARTPOLE]}, "backend='torch': CartPole-v1 has no batched physics"),
    ({"seed": -1}, "seed=-1: must be an integer of at least 0"),
    ({"seed": None}, "seed=None: must be an integer"),
    ({"task_assignment": "random"}, "task_assignment='random': allowed: auto, fixed, cycle"),
    (
        {"num_envs": 8, "task_assignment": "fixed"},
        "num_envs=8: task_assignment 'fixed' needs a multiple of the 5 tasks",
    ),
    ({"env_indices": [0, 1, 2, 3, 4]}, "total_envs: missing"),
    ({"total_envs": 10}, "total_envs=10: differs from num_envs=5"),
    ({"env_indices": [0, 1], "total_envs": 10}, "env_indices=[0, 1]: must be num_envs=5 different numbers from 0 to 9"),
    ({"env_indices": [0, 1, 2, 3, 3], "total_envs": 10}, "different numbers"),
    ({"env_indices": [0, 1, 2, 3, 10], "total_envs": 10}, "from 0 to 9"),
    ({"render_mode": "human", "backend": "batched"}, "render_mode='human': allowed in a batch"),
    ({"render_mode": "human", "backend": "torch"}, "render_mode='human': allowed in a batch"),
]


@pytest.mark.parametrize(("arguments", "text"), VECTORS)
def test_bad_vector_envs(arguments, text):
    with pytest.raises(ConfigError) as error:
        make_vector_env(**{"suite": "ComplexCartPole", "num_envs": 5, **arguments})
    assert_one_line(error, text)


def test_no_such_task():
    with pytest.raises(ConfigError, match="task=5: ComplexCartPole has the tasks 0 to 4"):
        get_suite("ComplexCartPole").make_task(5)


def test_state_of_another_size():
    vec = make_vector_env("CartPole", 2)
    vec.reset()
    with pytest.raises(ConfigError, match="holds 2 envs, the vector env has num_envs=3"):
        set_state(make_vector_env("CartPole", 3), get_state(vec))


def test_seed_list_of_another_length():
    with pytest.raises(ConfigError, match="one seed for each of the 2 envs"):
        make_vector_env("CartPole", 2).reset(seed=[1])


@pytest.mark.parametrize("backend", ["batched", "torch"])
@pytest.mark.parametrize("actions", [[0, 2], [-1, 0], [0], [[0, 1]], [0.0, 1.0], [True, False], [0, 2**63], [0, 2**32]])
def test_bad_actions_of_a_batch(actions, backend):
    vec = make_vector_env("CartPole", 2, backend)
    vec.reset()
    with pytest.raises(gym.error.InvalidAction):
        vec.step(np.array(actions))


@pytest.mark.parametrize("backend", ["batched", "torch"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_any_integers_are_actions(dtype, backend):
    left, right = (make_vector_env("CartPole", 2, backend) for _ in range(2))
    left.reset()
    right.reset()
    action = np.array([0, 1])
    np.testing.assert_array_equal(left.step(action)[0], right.step(action.astype(dtype))[0])


def test_bad_action_of_one_env():
    env = get_suite("CartPole").make_task(0).unwrapped
    env.reset()
    with pytest.raises(gym.error.InvalidAction):
        env.step(2)


def test_step_before_reset():
    for backend in ("batched", "torch"):
        with pytest.raises(gym.error.ResetNeeded):
            make_vector_env("CartPole", 2, backend).step(np.array([0, 0]))
    with pytest.raises(gym.error.ResetNeeded):
        get_suite("CartPole").make_task(0).unwrapped.step(0)
