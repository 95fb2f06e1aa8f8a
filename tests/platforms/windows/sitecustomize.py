"""Python as the package finds it on Windows, for every process that has this folder on its path.

Only modules of varshare_pl see it: other packages have their own ways there, which need the real system.
"""

import builtins
import errno
import fcntl
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
OF_OS = {
    "execve",
    "fork",
    "getpgid",
    "getuid",
    "killpg",
    "posix_fallocate",
    "sched_getaffinity",
    "sched_yield",
    "setsid",
}
OF_SIGNAL = {"SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "pthread_sigmask"}


class Pretended:
    """A module without some names, and with others in place of its own."""

    def __init__(self, module, missing=(), **others):
        vars(self).update(_module=module, _missing=missing, **others)

    def __getattr__(self, name):
        if name in self._missing:
            raise AttributeError(f"module '{self._module.__name__}' has no attribute '{name}' on Windows")
        return getattr(self._module, name)

    def __setattr__(self, name, value):
        setattr(self._module, name, value)


def open_file(path, flags, mode=0o777):
    if Path(path).is_dir():
        raise PermissionError(errno.EACCES, "a folder cannot be opened", str(path))
    return os.open(path, flags, mode)


def fsync(descriptor):
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "a file that is only read cannot be flushed")
    os.fsync(descriptor)


def write_text(path, data, encoding=None, errors=None, newline=None):
    data = data.replace("\n", "\r\n") if newline is None else data
    return real_write_text(path, data, encoding, errors, newline="")


def pretended(name, module):
    if name == "psutil":
        memory = SimpleNamespace(peak_wset=module.Process().memory_info().rss)
        return Pretended(module, Process=lambda: SimpleNamespace(memory_info=lambda: memory))
    return PRETENDED.get(name, module)


def import_module(name, scope=None, *args, **kwargs):
    ours = str((scope or {}).get("__name__")).partition(".")[0] == "varshare_pl"
    if ours and name in MODULES:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    module = real_import(name, scope, *args, **kwargs)
    return pretended(name, module) if ours else module


PRETENDED = {
    "os": Pretended(os, OF_OS, name="nt", open=open_file, fsync=fsync),
    "signal": Pretended(signal, OF_SIGNAL),
    "sys": Pretended(sys, platform="win32"),
}
real_write_text, Path.write_text = Path.write_text, write_text
real_import = builtins.__import__
builtins.__import__ = import_module
for context in ("fork", "forkserver"):
    del multiprocessing.context._concrete_contexts[context]
del multiprocessing.context.ForkServerProcess
multiprocessing.get_all_start_methods = lambda: ["spawn"]
multiprocessing.set_start_method("spawn")
