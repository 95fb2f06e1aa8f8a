"""Worker processes end with their parent, leave nothing behind, and run nothing of its script."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from worker_envs import alive, make

HERE = Path(__file__).parent
SHARED = Path("/dev/shm")


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs in its background ignore Ctrl-C
sys.path.insert(0, {here!r})
from worker_envs import make
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
    with script("signal.signal(signal.SIGTERM, signal.SIG_IGN)" + STEPS) as (process, pids):
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
