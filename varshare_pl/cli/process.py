"""What a run changes in its process, and back again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from varshare_pl.errors import ConfigError, RunError
from varshare_pl.text import plain

_LOGGERS = ("lightning.pytorch", "lightning.fabric")
_SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
LARGEST_PORT = 65535
# No handler hears it; on Windows that is so of SIGTERM from another process.
if sys.platform == "win32":
    AT_ONCE = signal.SIGTERM
else:
    AT_ONCE = signal.SIGKILL
_NOISE = (
    # Calls of Lightning 2.6 and ours that must do with older versions of jsonargparse too.
    (r"[\s\S]*(JsonargparseDeprecationWarning|instantiate_classes|skip_none)", DeprecationWarning),
    (r".*LeafSpec.*", FutureWarning),  # Lightning 2.6 with torch 2.13
    (r".*does not have many workers.*", UserWarning),  # rollouts are collected in this process
    (r"Be aware that when using `ckpt_path`, callbacks.*", UserWarning),  # validate needs none of the recorders
    (r"The `srun` command is available.*", UserWarning),  # runs are single processes, or DDP's own, there too
    (r"Your `IterableDataset` has `__len__` defined.*", UserWarning),  # only matters with workers
)


def _one_line_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"varshare: warning: {plain(' '.join(str(message).split()))}\n"


@contextmanager
def leave_no_trace() -> Iterator[None]:
    """Keep Lightning quiet, warnings to one line, and make classes in the current folder importable.

    All is put back at the end: log levels, warning filters and their form, torch's threads, the variables of
    ``seed_everything``, the handler of Ctrl-C and the import path.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    variables = {name: os.environ.get(name) for name in _SEED_VARIABLES}
    path = sys.path
    sys.path = [*path, str(Path.cwd())]  # at the end: a file there must not hide a package
    form = warnings.formatwarning
    warnings.formatwarning = _one_line_warning
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for message, category in _NOISE:
            warnings.filterwarnings("ignore", message, category)
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            sys.path = path
            warnings.formatwarning = form
            torch.set_num_threads(threads)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)  # Lightning ignores it once it was pressed
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@contextmanager
def end_other_processes(trainer: Trainer) -> Iterator[None]:
    """After an error end the processes that the trainer started, which would wait for this one; leave their group.

    Raises:
        ConfigError: if MASTER_ADDR or MASTER_PORT says that they meet where they cannot.
        RunError: if they do not find each other.
    """
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        _check_meeting_place(trainer.strategy.launcher.cluster_environment)
    try:
        yield
    except BaseException as error:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(AT_ONCE)
        if isinstance(error, dist.DistError):
            reason = str(error).partition("\n")[0]
            raise RunError(f"the processes of the run do not reach each other: {reason}") from error
        raise
    finally:
        # Lightning leaves the group for NCCL only, and gloo's threads may abort a process that ends within one.
        if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()


def _check_meeting_place(environment: ClusterEnvironment) -> None:
    """See that the processes that are about to be started can meet at the address and the port in the environment."""
    if environment.creates_processes_externally:  # torchrun and the like have chosen, and may listen there already
        return
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if port is not None and not (port.isdecimal() and 0 < int(port) <= LARGEST_PORT):
        raise ConfigError(f"MASTER_PORT: {port!r} is not allowed; a number from 1 to {LARGEST_PORT}, or none, is")
    if address is not None:
        try:
            socket.getaddrinfo(address, port)
        except (OSError, UnicodeError):
            allowed = "that of this one, or none, is allowed"
            raise ConfigError(f"MASTER_ADDR: {address!r} is the name of no machine; {allowed}") from None
    if port is not None and environment.node_rank() == 0:
        try:
            with socket.socket() as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(("", int(port)))
        except OSError as error:
            reason = f"{port} cannot be used ({error.strerror})"
            raise ConfigError(f"MASTER_PORT: {reason}; another one, or none, is allowed") from None
