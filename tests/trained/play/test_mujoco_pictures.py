"""MuJoCo's envs are drawn where there is no display."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.trained.play import opengl
from varshare_pl.trained.play.episodes import Episodes
from varshare_pl.trained.play.opengl import CHOICE, choose_opengl


class Still:
    """A policy of some tasks of a suite that does nothing."""

    def __init__(self, name, *tasks):
        suite = get_suite(name)
        self.suite = dataclasses.replace(suite, tasks=tuple(suite.tasks[k] for k in tasks or [-1]))

    def __call__(self, obs, tasks, generator=None):
        return np.zeros((len(tasks), *self.suite.action_space.shape), np.float32)


@pytest.fixture
def no_display(monkeypatch):
    for name in (CHOICE, "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    os.environ.pop(CHOICE, None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
@pytest.mark.parametrize(("suite", "size"), [("HopperFamily", (480, 480, 3)), ("MetaWorld", (240, 240, 3))])
def test_episodes_are_drawn_without_a_display(no_display, suite, size):
    try:
        choose_opengl()
    except ConfigError:
        pytest.skip("neither EGL nor OSMesa is installed")
    no_display.delenv(CHOICE)
    playing = Episodes(Still(suite), episodes=1, seed=1, max_steps=3)
    images = [row[0].image for row in playing.panels(every=3)]
    playing.close()
    assert os.environ[CHOICE] in ("egl", "osmesa")
    assert [image.shape for image in images] == [size] * 2
    assert all(len(np.unique(image.reshape(-1, 3), axis=0)) > 50 for image in images)
    assert not np.array_equal(*images)


def test_each_of_several_envs_is_drawn_with_its_own_meshes(no_display):
    try:
        choose_opengl()
    except ConfigError:
        pytest.skip("neither EGL nor OSMesa is installed")
    playing = Episodes(Still("MetaWorld", 3, 8), episodes=1, seed=1, max_steps=3)
    together = [row[0].image for row in playing.panels(every=3)]
    playing.close()
    playing = Episodes(Still("MetaWorld", 3), episodes=1, seed=1, max_steps=3)
    alone = [row[0].image for row in playing.panels(every=3)]
    playing.close()
    np.testing.assert_array_equal(together, alone)


def test_metaworld_stands_upright(no_display):
    """Meta-World's cameras in the corners stand on their heads."""
    try:
        choose_opengl()
    except ConfigError:
        pytest.skip("neither EGL nor OSMesa is installed")
    env = get_suite("MetaWorld").make_task(0, "rgb_array")
    env.reset(seed=1)
    drawn, theirs = env.render(), env.unwrapped.render()
    env.close()
    np.testing.assert_array_equal(drawn, theirs[::-1, ::-1])


def test_where_nothing_draws_there_is_one_line(no_display):
    tried = []

    def fails(command, **_):
        tried.append(command[-1])
        return subprocess.CompletedProcess(command, 1)

    no_display.setattr(opengl.subprocess, "run", fails)
    no_display.setattr(opengl.sys, "platform", "linux")
    with pytest.raises(ConfigError) as error:
        choose_opengl()
    assert str(error.value) == ("play: MuJoCo can draw here by neither EGL nor OSMesa; install one, or set MUJOCO_GL")
    assert ["egl" in tried[0], "osmesa" in tried[1]] == [True, True]
    assert CHOICE not in os.environ


def test_what_the_user_chose_stays(no_display):
    no_display.setattr(opengl, "_works", lambda name: name == "glfw")
    no_display.setenv(CHOICE, "glfw")
    choose_opengl()
    assert os.environ[CHOICE] == "glfw"
    no_display.delenv(CHOICE)
    no_display.setenv("DISPLAY", ":0")
    choose_opengl()
    assert CHOICE not in os.environ


@pytest.mark.parametrize("chosen", ["vulkan", "osmesa"])
def test_a_choice_that_does_not_work_is_one_line(no_display, chosen):
    no_display.setattr(opengl, "_works", lambda name: False)
    no_display.setenv(CHOICE, chosen)
    with pytest.raises(ConfigError) as error:
        Episodes(Still("HopperFamily"), episodes=1, seed=1)
    assert str(error.value) == f"play: MUJOCO_GL={chosen!r}: does not work here; allowed: egl, osmesa, glfw, or unset"


def test_an_env_that_raises_while_it_is_drawn_is_one_line(no_display):
    no_display.setenv("DISPLAY", ":0")
    playing = Episodes(Still("HopperFamily"), episodes=1, seed=1)

    def render():
        raise RuntimeError("no\nlight")

    no_display.setattr(playing._players[0].env, "render", render)
    with pytest.raises(ConfigError, match=r"^play: the task 'slippery' cannot be drawn: no light$"):
        list(playing.panels(every=1))
