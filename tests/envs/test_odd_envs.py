"""Envs that hand out what they go on changing, odd types, and samples of their spaces."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from varshare_pl.envs import final_observations, get_state, make_vector_env, set_state
from varshare_pl.errors import EnvError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium warns of all that is odd here
BACKENDS = ("sync", "workers")


class Odd(gym.Env):
    """Episodes of three steps, 1 a step; attributes replace parts of what it returns."""

    observation_space, action_space = Box(-100, 100, (1,), np.float32), Discrete(2)
    reward, terminated, told = 1.0, None, {}
    obs = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        ended = self.time == 3
        obs = np.full(1, self.time, np.float32) if self.obs is None else self.obs
        return obs, self.reward, ended if self.terminated is None else self.terminated, False, dict(self.told)


class InPlace(Odd):
    """One array for all observations, one for the reward, and one in the info."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if not hasattr(self, "buffer"):
            self.buffer, self.pay, self.told = np.zeros(1, np.float32), np.zeros(()), {"n": np.zeros(1), "l": [0]}
        for array in (self.buffer, self.pay, self.told["n"]):
            array[...] = 0
        self.told["l"][0] = 0
        return self.buffer, self.told

    def step(self, action):
        self.time += 1
        self.buffer += 1
        self.pay += 2
        self.told["n"] += 1
        self.told["l"][0] += 1
        return self.buffer, self.pay, self.time == 3, False, self.told


class Sampling(Odd):
    """Observes samples of its spaces: those of its class, one of its own, and one inside another."""

    observation_space = Box(-100, 100, (4,), np.float32)

    def __init__(self):
        self.starts = Dict({"x": Box(0, 1, (1,), np.float32)})

    def sample(self):
        own = [self.starts.sample()["x"][0], self.starts["x"].sample()[0]]
        return np.array([self.action_space.sample(), self.observation_space.sample()[0], *own], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.sample(), {}

    def step(self, action):
        _, *rest = super().step(action)
        return self.sample(), *rest

    def get_state(self):
        return {"time": self.time}

    def set_state(self, state):
        self.time = state["time"]


class ManyBits(Sampling):
    """Seeds its spaces by itself, when it is told a seed."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.action_space.seed(seed)
        return super().reset(seed=seed)


@pytest.fixture(autouse=True)
def _registered():
    classes = {"Odd-v0": Odd, "InPlace-v0": InPlace, "Sampling-v0": Sampling, "ManyBits-v0": ManyBits}
    for name, kind in classes.items():
        gym.register(name, kind)
    gym.register(
        "Stacked-v0", lambda: gym.wrappers.FlattenObservation(gym.wrappers.FrameStackObservation(InPlace(), 3))
    )
    yield
    for name in (*classes, "Stacked-v0"):
        del gym.registry[name]


def odd(*attributes, backend="sync"):
    tasks = [{"id": "Odd-v0", "name": f"odd {k}", "attributes": each} for k, each in enumerate(attributes)]
    vec = make_vector_env(tasks, len(tasks), backend, info_keys=("score",))
    vec.reset()
    return vec


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_an_env_changes_in_place_stays_as_it_was_handed_out(backend):
    vec = make_vector_env([{"id": "InPlace-v0"}], 2, backend)
    first, _ = vec.reset()
    rows = [vec.step(np.zeros(2, np.int64)) for _ in range(3)]
    assert first.tolist() == [[0], [0]]
    assert [obs[0, 0] for obs, *_ in rows] == [1, 2, 0]
    assert [reward[0] for _, reward, *_ in rows] == [2, 4, 6]
    final, _ = final_observations(rows[-1][-1], rows[-1][0])
    assert final.tolist() == [[3], [3]]
    assert rows[-1][-1]["final_info"]["n"].tolist() == [[3], [3]]
    assert rows[-1][-1]["final_info"]["l"].tolist() == [[3], [3]]
    vec.close()


def test_a_stack_of_frames_holds_different_frames_of_one_array():
    vec = make_vector_env([{"id": "Stacked-v0"}], 1)
    vec.reset()
    vec.step(np.array([0]))
    assert vec.step(np.array([0]))[0].tolist() == [[0, 1, 2]]


VALUES = [
    ([1, 0.7], [1.0, 0.7]),
    ([0.7, True], [0.7, 1.0]),
    ([np.float32(0.25), 2, np.bool_(True)], [0.25, 2.0, 1.0]),
    ([np.array(0.25), np.int8(3)], [0.25, 3.0]),
    ([None, 1.0], [None, 1.0]),
    ([1.0, None, 2], [1.0, None, 2]),
    (["good", 1], ["good", 1]),
    ([1, {"a": 2}], [1, {"a": 2}]),
    ([{"a": 2}, 1], [{"a": 2}, 1]),
]


@pytest.mark.parametrize(("values", "expected"), VALUES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_infos_of_several_types_keep_their_values(values, expected, backend):
    vec = odd(*({"told": {"score": value}} for value in values), backend=backend)
    info = vec.step(np.zeros(len(values), np.int64))[-1]
    assert list(info["score"]) == expected
    vec.close()


def test_keys_of_the_vector_env_are_its_own():
    vec = odd({"told": {"task": 99, "_task": 3, "final_info": 1, "final_obs": 2, "_x": 1, "x": 4}})
    for _ in range(3):
        info = vec.step(np.array([0]))[-1]
    assert info["task"].tolist() == info["final_info"]["task"].tolist() == [0]
    assert info["final_info"]["x"].tolist() == [4]
    assert info["final_obs"][0].tolist() == [3]


@pytest.mark.parametrize("value", [[2.0], np.array([2.0]), np.array([2], np.int32), np.array([2.0], np.float64)])
def test_an_observation_may_be_a_list_or_of_another_type(value):
    assert odd({"obs": value}).step(np.array([0]))[0].tolist() == [[2.0]]


@pytest.mark.parametrize("value", [2, True, np.float64(2), np.array(2.0), np.array([2.0]), np.int8(2)])
def test_a_reward_may_be_any_number(value):
    assert odd({"reward": value}).step(np.array([0]))[1].tolist() == [float(np.asarray(value).item())]


FAULTS = [
    ({"reward": None}, "gave the reward None; a number is allowed"),
    ({"reward": "1"}, "gave the reward '1'; a number is allowed"),
    ({"reward": np.ones(2)}, "gave the reward array([1., 1.]); a number is allowed"),
    ({"reward": 1e39}, "gave the reward 1e+39; a finite number of float32 is allowed"),
    ({"terminated": "no"}, "gave terminated = 'no'; True or False is allowed"),
    ({"obs": "x"}, "gave the observation 'x'; an array of numbers of shape (1,) is allowed"),
    ({"obs": {"a": 1}}, "gave the observation {'a': 1}; an array of numbers of shape (1,) is allowed"),
    ({"obs": np.ones((1, 1))}, "gave an observation of shape (1, 1); (1,) is its space's"),
    ({"obs": np.array([1e39])}, "gave an observation that is not finite in float32"),
]


@pytest.mark.parametrize(("attributes", "text"), FAULTS)
def test_what_cannot_be_used_names_env_task_and_step(attributes, text):
    vec = odd({}, attributes)
    with pytest.raises(EnvError) as error:
        vec.step(np.zeros(2, np.int64))
    assert str(error.value).startswith("env 1 (task 1, odd 1) at step 1 of its episode ")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("env_id", ["Sampling-v0", "ManyBits-v0"])
def test_samples_of_spaces_hang_on_the_seed_in_every_backend_and_across_a_resume(env_id):
    def make(backend, seed=3):
        vec = make_vector_env([{"id": env_id}] * 3, 2, backend, seed=seed, task_assignment="cycle")
        return vec, vec.reset()[0]

    def play(vec, steps):
        return [vec.step(np.zeros(2, np.int64))[0] for _ in range(steps)]

    found = []
    for backend in (*BACKENDS, "sync"):
        vec, first = make(backend)
        found.append([first, *play(vec, 15)])
        vec.close()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert len(np.unique(np.array(found[0])[:, :, 1])) == 32  # of 16 steps and 2 envs
    other, first = make("sync", seed=4)
    assert not np.array_equal(found[0][:6], [first, *play(other, 5)])

    vec, _ = make("sync")
    play(vec, 7)
    state = get_state(vec)
    resumed, _ = make("sync", seed=9)
    set_state(resumed, state)
    np.testing.assert_array_equal(play(resumed, 8), found[0][8:])
