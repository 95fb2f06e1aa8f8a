"""Commands that are killed at a chosen one of their file operations, and what a power cut leaves of their files."""

import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")


class Crashes:
    """Runs commands that change files under ``folder``, and kills them.

    Args:
        place: Where everything goes; ``folder`` is in it.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place / "files"
        self._output, self._journal = place / "output", place / "journal"
        self.folder.mkdir()
        state = place / "state"
        state.write_bytes(bytes(16))
        with state.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), 16)
        library = place / "file_ops.so"
        compiler = next(filter(None, map(shutil.which, COMPILERS)))
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "file_ops.c", "-ldl"], check=True)
        env = {"LD_PRELOAD": library, "CRASH_FOLDER": self.folder, "CRASH_STATE": state, "CRASH_JOURNAL": self._journal}
        env |= {"OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, HERE / "command_server.py", self._output],
            env=os.environ | {name: str(value) for name, value in env.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def close(self) -> None:
        self._server.communicate()  # no more lines: it ends
        self._state.close()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()

    @property
    def output(self) -> str:
        """What the last command printed."""
        return self._output.read_text(encoding="utf-8")

    def run(self, *args: str, kill_at: int = 0) -> int:
        """Run a command of ``varshare``; gives how many file operations there were.

        Args:
            args: The command line.
            kill_at: The operation to kill it at, from 1; 0: it must succeed.
        """
        self._forget()
        self._state[:] = struct.pack("qq", 0, kill_at)
        assert self._server.stdin is not None
        print(json.dumps(args), file=self._server.stdin, flush=True)
        status = int(self._answer())
        if kill_at:
            of_run = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1  # the process of a study's run was killed
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            assert killed or of_run, f"it ended before operation {kill_at}: {self.output}"
        else:
            assert status == 0, self.output
        return int(struct.unpack("qq", self._state[:])[0])

    def _forget(self) -> None:
        for path in self._journal.parent.glob(f"{self._journal.name}*"):
            path.unlink()

    def cut_power(self) -> None:
        """Take from the files what the last command had not brought to disk for sure.

        Files are cut to what they had when they were last synced, and renames are undone after which nobody synced the
        folder. What stood in a folder that was emptied is not brought back.
        """
        journal = self._journal.read_text(encoding="utf-8") if self._journal.exists() else ""
        lines = [line.split() for line in journal.splitlines()]
        renames: list[tuple[str, str, str]] = []
        sizes: dict[str, int] = {}
        for kind, *words in lines:
            if kind == "size":
                sizes[words[0]] = int(words[1])
            elif kind == "rename":
                renames.append((words[0], words[1], words[2]))
            else:
                renames = [one for one in renames if str(Path(one[1]).parent) != words[0]]
        for source, target, kept in reversed(renames):
            if Path(target).exists():
                Path(target).replace(source)
            if kept != "-":
                os.link(kept, target)
        for path in self.folder.rglob("*"):
            if path.is_file():
                found = path.stat()
                synced = sizes.get(f"{found.st_dev}:{found.st_ino}", found.st_size)
                if synced < found.st_size:
                    os.truncate(path, synced)
