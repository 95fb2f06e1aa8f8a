"""Envs that raise, die, hang and warn in a worker: one line with env, task and step."""

import time

import pytest
from worker_envs import alive, make, play

from varshare_pl.envs import get_state, set_state
from varshare_pl.errors import EnvError


def fail(backend, fault, moment, **options):
    """The message of the first fault of a vector env that is made, reset, stepped and closed."""
    vec = None
    try:
        vec = make(6, backend, fault, moment, **options)
        vec.reset()
        play(vec, 5)
        vec.close()
    except EnvError as error:
        if vec is not None and moment != "close":
            vec.close()
        return str(error)
    raise AssertionError("nothing was raised")


MOMENTS = {
    "make": "while it was made",
    "reset": "at step 0 of its episode",
    "step": "at step 3 of its episode",
    "close": "at step 1 of its episode",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Gymnasium closes sync ones twice
def test_an_env_that_raises_gives_the_line_of_sync(moment):
    line = fail("workers", "raise", moment)
    assert line == f"env 1 (task 1, bad) {MOMENTS[moment]} raised RuntimeError: no {moment} today"
    assert line == fail("sync", "raise", moment)


@pytest.mark.parametrize("moment", ["make", "reset", "step"])
@pytest.mark.parametrize(("fault", "how"), [("die", "of SIGKILL"), ("exit", "with exit code 3")])
def test_a_worker_that_dies(fault, how, moment):
    line = fail("workers", fault, moment, num_workers=1)
    assert line == f"env 1 (task 1, bad) {MOMENTS[moment]}: its process died {how}"


@pytest.mark.parametrize("moment", ["make", "reset", "step"])
def test_a_worker_that_hangs(moment):
    start = time.monotonic()
    line = fail("workers", "spin", moment, num_workers=2, worker_timeout=0.5)
    words = f"{MOMENTS[moment]}: its process did not answer for 0.5 seconds, the worker_timeout"
    assert line == f"env 1 (task 1, bad) {words}"
    assert time.monotonic() - start < 20


def test_an_env_that_hangs_when_it_is_closed_is_killed():
    vec = make(3, "workers", "hang", "close")
    pids = set(vec.call("place"))
    vec.close()
    assert not any(alive(pid) for pid in pids)


def test_envs_that_are_slow_together_are_not_hung():
    """The time-out is for one env, not for all of a worker's."""
    vec = make(12, "workers", "slow", "step", num_workers=1, worker_timeout=1.0)
    vec.reset()
    start = time.monotonic()
    play(vec, 3)  # the third one of four envs takes 0.4 seconds each
    assert time.monotonic() - start > 1.6
    vec.close()


def test_a_fault_after_a_resume_tells_the_step():
    vec = make(3, "workers", "die", "step")
    vec.reset()
    play(vec, 2)
    state = get_state(vec)
    vec.close()
    vec = make(3, "workers", "die", "step")
    set_state(vec, state)
    with pytest.raises(EnvError, match=r"^env 1 \(task 1, bad\) at step 3 of its episode: its process died"):
        play(vec, 1)
    vec.close()


def test_warnings_are_told_once_by_the_parent():
    vec = make(6, "workers", "warn", "reset")
    with pytest.warns(UserWarning, match="strange reset") as told:
        vec.reset()
    vec.close()
    assert len([warning for warning in told if "strange" in str(warning.message)]) == 1


def test_the_traceback_of_a_worker_is_a_note():
    vec = make(3, "workers", "raise", "reset")
    with pytest.raises(EnvError) as error:
        vec.reset()
    vec.close()
    assert "in _trouble" in error.value.__notes__[0]
