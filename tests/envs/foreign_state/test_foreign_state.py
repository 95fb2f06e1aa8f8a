"""Envs of other packages go on exactly: 100 steps, a state in a file, 100 more steps in another process, equal bits."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import continuing
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from varshare_pl.envs import TaskSpec, get_state, make_vector_env, set_state
from varshare_pl.envs.foreign_state import teller_of
from varshare_pl.envs.plain import as_plain, from_plain

pytestmark = pytest.mark.filterwarnings(
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # of Box2D
)

LANDERS = [{"id": "LunarLander-v3"}, {"id": "LunarLander-v3", "kwargs": {"enable_wind": True}}]
FAMILIES = {
    "CartPole": ["CartPole-v1", "CartPole-v1"],
    "Acrobot": [{"id": "Acrobot-v1", "kwargs": {"max_episode_steps": 70}}],
    "MountainCar": [{"id": "MountainCar-v0", "kwargs": {"max_episode_steps": 70}}],
    "LunarLander": LANDERS,
    "cheetah": {"make": "mujoco_cheetah_family", "options": {"horizon": 70}},
    "hopper": {"make": "mujoco_hopper_family", "options": {}},
    "MT10": {"make": "metaworld", "options": {"horizon": 65}},
    "MT3 v1": {"make": "metaworld", "options": {"benchmark": "MT3", "horizon": 65, "reward_version": "v1"}},
}
ENVS = {"MT10": 10, "LunarLander": 3}  # three landers on two tasks: each changes its task at a reset


FAST = [family for family in FAMILIES if family != "MT10"]


def undisturbed(family: str, folder: Path) -> np.ndarray:
    """What a family gives from its state on; the state is left in the folder, to go on from."""
    suite = FAMILIES[family]
    envs = ENVS.get(family) or (6 if family == "cheetah" else 4 if family == "hopper" else 3)
    vec = continuing.make(suite, envs)
    vec.reset()
    continuing.steps(vec, 0)
    state = get_state(vec)
    assert all(env["env"] is not None for env in state["envs"])
    (folder / "asked.json").write_text(json.dumps({"suite": suite, "envs": envs, "state": state}), encoding="utf-8")
    rows = continuing.steps(vec, 1)
    vec.close()
    assert rows[:, :, -2:].any(axis=0).any(axis=1).sum() == envs, "every env ends an episode"
    return rows


def go_on(*folders: Path) -> None:
    """In another process, which takes longer to start than to step."""
    subprocess.run([sys.executable, continuing.__file__, *folders], check=True, capture_output=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each fast family what it gave undisturbed, and what another process did."""
    families = [family for family in FAST if family != "LunarLander" or find_spec("Box2D")]
    folders = {family: tmp_path_factory.mktemp("family") for family in families}
    rows = {family: undisturbed(family, folder) for family, folder in folders.items()}
    go_on(*folders.values())
    return {family: (rows[family], np.load(folder / "rows.npy")) for family, folder in folders.items()}


@pytest.mark.parametrize("family", FAST)
def test_another_process_goes_on_with_equal_bits(family: str, both: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    if family == "LunarLander":
        pytest.importorskip("Box2D")
    here, there = both[family]
    np.testing.assert_array_equal(there, here)


@pytest.mark.slow
def test_ten_tasks_of_metaworld_go_on_with_equal_bits(tmp_path: Path) -> None:
    rows = undisturbed("MT10", tmp_path)
    go_on(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows)


def run(env, seed, steps=60):
    rng, rows = np.random.default_rng(seed), []
    for _ in range(steps):
        space = env.action_space
        action = rng.integers(space.n) if hasattr(space, "n") else rng.uniform(space.low, space.high)
        obs, reward, terminated, truncated, _ = env.step(action)
        rows.append([*np.ravel(obs), reward])
        if terminated or truncated:
            env.reset()
    return np.array(rows)


def moved(env, other):
    """Bring ``other`` to where ``env`` is, its core, its random stream, and only these."""
    state = json.loads(json.dumps(as_plain(teller_of(env.unwrapped).get_state())))
    other.reset(seed=99)
    teller_of(other.unwrapped).set_state(from_plain(state))
    other.unwrapped.np_random = from_plain(json.loads(json.dumps(as_plain(env.unwrapped.np_random))))


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "Ant-v5", "Humanoid-v5", "Reacher-v5"])
def test_the_core_of_an_env_goes_on(name: str) -> None:
    env, other = (gym.make(name, disable_env_checker=True) for _ in range(2))
    env.reset(seed=1)
    run(env, 2, steps=30)
    moved(env, other)
    np.testing.assert_array_equal(run(env, 3, steps=15), run(other, 3, steps=15))


def test_arrays_that_are_views_into_the_simulation_stay_views() -> None:
    env, other = (gym.make("varshare_pl/MetaWorld-v3", task="pick-place") for _ in range(2))
    env.reset(seed=1)
    run(env, 2, steps=30)
    moved(env, other)
    assert all(np.shares_memory(e.unwrapped.init_left_pad, e.unwrapped.data.xpos) for e in (env, other))
    np.testing.assert_array_equal(run(env, 3), run(other, 3))


class Restless(CartPoleEnv):
    """Derived from an env that is known, with what is no plain data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.held = object()


class Counting(CartPoleEnv):
    """Derived from an env that is known, with a number of its own."""

    count = 0

    def step(self, action):
        self.count += 1
        obs, _, *rest = super().step(action)
        return obs, float(self.count), *rest


@pytest.mark.parametrize(("kind", "exact"), [(Restless, False), (Counting, True)])
def test_what_is_derived_from_a_known_env_is_told_if_it_is_plain(kind: type, exact: bool) -> None:
    gym.register(f"{kind.__name__}-v0", kind, max_episode_steps=100)
    try:
        vec = make_vector_env([f"{kind.__name__}-v0"], 1)
        vec.reset()
        for _ in range(5):
            vec.step(np.array([0]))
        state = get_state(vec)["envs"][0]["env"]
        assert (state is not None) is exact
        if exact:
            assert state["count"] == 5
    finally:
        del gym.registry[f"{kind.__name__}-v0"]


def test_a_replayed_env_keeps_the_actions_of_one_episode_only() -> None:
    pytest.importorskip("Box2D")
    env = TaskSpec("lander", "LunarLander-v3", {"max_episode_steps": 20}).make()
    env.reset(seed=1)
    layer = env
    while type(layer).__name__ != "Replayed":
        layer = layer.env
    for _ in range(7):
        env.step(2)
    assert layer.get_state()["actions"] == [2] * 7
    env.reset()
    assert layer.get_state()["actions"] == []


def test_what_a_wrapper_draws_between_replayed_steps_is_drawn_again() -> None:
    pytest.importorskip("Box2D")
    sticky = {"gymnasium.wrappers.StickyAction": {"repeat_action_probability": 0.4}}
    suite = {"name": "Sticky", "tasks": ["LunarLander-v3"], "wrappers": [sticky]}
    vec, other = (make_vector_env(suite, 2, "sync", seed=3) for _ in range(2))
    vec.reset()
    other.reset()
    rng = np.random.default_rng(0)
    for _ in range(30):
        vec.step(rng.integers(0, 4, 2))
    set_state(other, json.loads(json.dumps(get_state(vec))))
    for _ in range(30):
        actions = rng.integers(0, 4, 2)
        np.testing.assert_array_equal(vec.step(actions)[0], other.step(actions)[0])


def test_minigrid_goes_on() -> None:
    pytest.importorskip("minigrid")
    import minigrid  # noqa: F401  registers its envs
    from minigrid.wrappers import FlatObsWrapper

    spec = TaskSpec("dynamic", "MiniGrid-Dynamic-Obstacles-5x5-v0")
    env, other = (FlatObsWrapper(spec.make()) for _ in range(2))
    env.reset(seed=1)
    run(env, 2)
    layer, others = (next(w for w in wrappers(e) if type(w).__name__ == "Replayed") for e in (env, other))
    other.reset(seed=5)
    others.set_state(from_plain(json.loads(json.dumps(as_plain(layer.get_state())))))
    np.testing.assert_array_equal(run(env, 3, steps=5), run(other, 3, steps=5))


def wrappers(env):
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
