"""Worker processes: the trajectories of sync, faults in one line, and nothing left behind."""

import copy
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from worker_envs import Trouble

from varshare_pl.envs import get_state, get_suite, make_vector_env, set_state
from varshare_pl.errors import ConfigError, EnvError

HERE = Path(__file__).parent
IDS = [{"id": "worker_envs:Trouble-v0", "name": name} for name in ("good", "bad", "ugly")]
SHARED = Path("/dev/shm")


def make(num_envs, backend="workers", fault="none", moment="never", **options):
    """Three tasks, the second of which has a fault; the suite knows nothing of it before its envs are made."""
    suite = get_suite(IDS)
    good, bad, ugly = suite.tasks
    bad = dataclasses.replace(bad, kwargs={"fault": fault, "moment": moment})
    if backend == "workers":
        options = {"num_workers": 2, **options}
    return make_vector_env(dataclasses.replace(suite, tasks=(good, bad, ugly)), num_envs, backend, seed=3, **options)


def same(left, right):
    """Whether what two backends returned has the same bits."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return np.array_equal(np.stack(list(left)), np.stack(list(right)))


def play(vec, steps, seed=0):
    actions = np.random.default_rng(seed).integers(0, 2, (steps, vec.num_envs))
    return [vec.step(action) for action in actions]


def numbers(info):
    """What both tell of a step: the numbers asked for, and the last infos."""
    final = info.get("final_info", {})
    kept = {key: info[key] for key in ("task", "score", "_score", "final_obs", "_final_obs") if key in info}
    if "final_obs" in kept:
        dense = np.zeros((len(info["task"]), 2), np.float32)
        for i in np.flatnonzero(info["_final_obs"]):
            dense[i] = info["final_obs"][i]
        kept["final_obs"] = dense
    return kept | {f"final {key}": final[key] for key in ("task", "_task", "score", "none", "_none") if key in final}


@pytest.mark.parametrize(("num_envs", "assignment"), [(6, "fixed"), (5, "cycle")])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_the_bits_of_sync_and_any_number_of_workers_goes_on(num_envs, assignment, num_workers):
    options = {"task_assignment": assignment, "info_keys": ("score",)}
    sync, workers = make(num_envs, "sync", **options), make(num_envs, **options)
    assert same(sync.reset()[0], workers.reset()[0])
    for left, right in zip(play(sync, 23), play(workers, 23), strict=True):
        assert all(same(a, b) and a.dtype == b.dtype for a, b in zip(left[:4], right[:4], strict=True))
        assert same(numbers(left[4]), numbers(right[4]))
    state = json.loads(json.dumps(get_state(workers)))
    assert state == get_state(sync)
    workers.close()
    resumed = make(num_envs, num_workers=num_workers, **options)
    obs, task = set_state(resumed, state)
    assert same(obs, set_state(sync, state)[0])
    assert task.tolist() == [env["task"] for env in state["envs"]]
    for left, right in zip(play(sync, 9, seed=1), play(resumed, 9, seed=1), strict=True):
        assert all(same(a, b) for a, b in zip(left[:4], right[:4], strict=True))
        assert same(numbers(left[4]), numbers(right[4]))
    resumed.close()


@pytest.mark.parametrize("seed", [7, [4, None, 6]])
def test_resets_with_seeds_and_of_some_envs(seed):
    sync, workers = make(3, "sync"), make(3)
    mask = np.array([False, True, True])
    for options in ({}, {"seed": seed}, {"options": {"reset_mask": mask}}, {"options": {"x": 1}}):
        expected = sync.reset(**copy.deepcopy(options))[0]  # which takes the mask out
        assert same(expected, workers.reset(**options)[0])
        assert same(play(sync, 3)[-1][0], play(workers, 3)[-1][0])
    workers.close()


def test_what_is_returned_belongs_to_the_caller():
    vec = make(3)
    first, info = vec.reset()
    kept, task = first.copy(), info["task"].copy()
    obs, reward, *_ = vec.step(np.ones(3, np.int64))
    old = obs.copy(), reward.copy()
    obs[:], reward[:] = 9, 9
    again = vec.step(np.zeros(3, np.int64))
    assert not same(again[0], obs)
    assert same(first, kept)
    assert same(info["task"], task)
    assert old[1].tolist() == [1, 1, 1]
    vec.close()


def test_each_worker_has_a_mix_of_tasks():
    vec = make(12, num_workers=2)
    places, tasks = np.array(vec.call("place")), np.array(vec.call("task"))
    assert len(set(places)) == 2
    assert os.getpid() not in places
    for place in set(places):
        assert np.bincount(tasks[places == place]).tolist() == [2, 2, 2]
    assert vec.call("threads") == ("1",) * 12
    vec.close()


def test_no_more_workers_than_envs_and_pictures_of_all():
    vec = make(3, num_workers=9, render_mode="rgb_array")
    assert len(set(vec.call("place"))) == 3
    vec.reset()
    vec.step(np.zeros(3, np.int64))
    assert [image[0, 0, 0] for image in vec.render()] == [1, 1, 1]
    vec.close()


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


@pytest.mark.parametrize("context", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_ways_to_start(context):
    sync, workers = make(3, "sync"), make(3, context=context)
    assert same(sync.reset()[0], workers.reset()[0])
    assert same(play(sync, 5)[-1][0], play(workers, 5)[-1][0])
    workers.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_ids_that_a_script_registers():
    gym.register("ByClass-v0", Trouble)
    gym.register("ByLambda-v0", lambda: Trouble(fault="none"))
    try:
        for task, options in (("ByClass-v0", {}), ("ByLambda-v0", {"context": "fork"})):
            vec = make_vector_env([task], 1, "workers", **options)
            vec.reset()
            vec.close()
        with pytest.raises(EnvError, match=r"^env 0 \(task 0, ByLambda-v0\) while it was made raised NameNotFound: "):
            make_vector_env(["ByLambda-v0"], 1, "workers")
    finally:
        del gym.registry["ByClass-v0"], gym.registry["ByLambda-v0"]


def test_what_cannot_be_sent_is_told():
    suite = get_suite(IDS)
    task = dataclasses.replace(suite.tasks[0], attributes={"fault": lambda: None})
    with pytest.raises(
        ConfigError, match=r"backend='workers': the suite .* cannot be sent to another process"
    ) as error:
        make_vector_env(dataclasses.replace(suite, tasks=(task,)), 1, "workers")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": 0}, "num_workers=0: must be an integer of at least 1"),
        ({"num_workers": 2, "backend": "sync"}, "num_workers=2: the backend is 'sync', which has no workers"),
        ({"num_workers": 2, "suite": "CartPole"}, "num_workers=2: the backend is 'batched', which has no workers"),
        ({"worker_timeout": 2.0}, "worker_timeout=2.0: the backend is 'sync', which has no workers"),
        ({"worker_timeout": 0.0, "num_workers": 1}, "worker_timeout=0.0: must be a number of seconds above 0"),
        ({"context": "thread", "num_workers": 1}, "context='thread': allowed: fork"),
    ],
)
def test_options_that_are_refused(options, text):
    with pytest.raises(ConfigError) as error:
        make_vector_env(**{"suite": IDS, "num_envs": 3, **options})
    assert str(error.value).startswith(text)


def test_auto_takes_workers_where_their_number_is_given():
    vec = make_vector_env(IDS, 3, num_workers=1)
    assert type(vec).__name__ == "WorkerEnvs"
    vec.close()


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
from test_workers import make
print("script", flush=True)
vec = make(6, "workers", {fault!r}, {moment!r})
vec.reset()
print(*vec.call("place"), flush=True)
{then}
"""
STEPS = """
import numpy as np
try:
    while True:
        vec.step(np.zeros(6, np.int64))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    vec.close()
"""


@contextmanager
def script(then, fault="none", moment="never"):
    """A process that has made workers, and the pids of these. It has no guard around what it does."""
    code = SCRIPT.format(here=str(HERE), fault=fault, moment=moment, then=then)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:
        try:
            assert process.stdout.readline() == "script\n"
            yield process, {int(pid) for pid in process.stdout.readline().split()}
        finally:
            process.kill()


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state not in "ZX"


def session(leader):
    """The living processes of a session: workers, and the server that forked them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rpartition(") ")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == leader and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("fault", ["none", "spin"])
def test_no_worker_outlives_a_parent_that_is_killed(fault):
    with script(STEPS, fault, "step") as (process, pids):
        time.sleep(0.3)
        assert all(alive(pid) for pid in pids)
        process.kill()
        wait_until(lambda: not session(process.pid))
        assert not any(alive(pid) for pid in pids)
        assert process.communicate()[1] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")
def test_signals_to_all_reach_the_parent_alone_and_nothing_is_left():
    before = set(SHARED.iterdir())
    with script("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + STEPS) as (process, pids):
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        assert all(alive(pid) for pid in pids)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (out, err, process.returncode) == ("interrupted\n", "", 0)
        wait_until(lambda: not session(process.pid))
    assert set(SHARED.iterdir()) <= before


def test_a_program_that_forgets_its_envs_ends():
    with script("") as (process, pids):
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
        assert not any(alive(pid) for pid in pids)


OWN = """
import sys
sys.path.insert(0, {here!r})
import gymnasium as gym
from worker_envs import Trouble
from varshare_pl.envs import make_vector_env
class Own(Trouble):
    pass
gym.register("Own-v0", Own)
if __name__ == "__main__":
    vec = make_vector_env(["Own-v0"], 1, "workers")
    print(*vec.call("threads"))
    vec.close()
"""


def test_a_class_of_the_main_script_is_found_where_that_is_a_file(tmp_path):
    path, code = tmp_path / "main.py", OWN.format(here=str(HERE))
    path.write_text(code)
    options = {"capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([sys.executable, str(path)], check=False, **options)
    assert (done.stdout, done.stderr) == ("1\n", "")
    done = subprocess.run([sys.executable, "-c", code], check=False, **options)
    line = done.stderr.splitlines()[-1]
    assert "ConfigError: backend='workers': another process cannot read the suite: AttributeError" in line
    assert done.stderr.count("Traceback") == 1  # of the parent alone


def test_workers_do_not_run_the_main_script(tmp_path):
    path = tmp_path / "main.py"
    path.write_text(SCRIPT.format(here=str(HERE), fault="none", moment="never", then="vec.close()"))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("script") == 1
    assert done.stderr == ""


def test_forked_copies_do_not_close_the_parents_workers():
    vec = make(3)
    vec.reset()
    child = multiprocessing.get_context("fork").Process(target=vec.close)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    vec.step(np.zeros(3, np.int64))
    vec.close()
