"""What a command needs of the process that it runs in: streams that take any text, UTF-8 files, no windows."""

from __future__ import annotations

import codecs
import io
import locale
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from varshare_pl.errors import RunError

ANY_TEXT = "varshare.any_text"  # the name of the error handler for streams
_ASCII = {
    "±": "+-",
    "×": "x",
    "–": "-",
    "−": "-",
    "≥": ">=",
    "≤": "<=",
    "…": "...",
    "σ": "sigma",
    "μ": "mu",
    "θ": "theta",
    "‖": "||",
    "²": "^2",
    "·": "*",
    "→": "->",
    "\u0304": "",
    "\u0303": "",
}


def _any_text(error: UnicodeError) -> tuple[str, int]:
    """Our own signs in ASCII; other characters that the stream's encoding lacks as their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    written = (_ASCII.get(sign) for sign in signs)
    escaped = (sign.encode("ascii", "backslashreplace").decode() for sign in signs)
    return "".join(e if w is None else w for w, e in zip(written, escaped, strict=True)), error.end


codecs.register_error(ANY_TEXT, _any_text)


class _Output(io.FileIO):
    """A stream that nobody may read any more, as of ``varshare report | head -1``: then the text is lost, not the work.

    Attributes:
        failure: Why nothing more is written.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            _to_nowhere(self.fileno())
            return memoryview(data).nbytes


@contextmanager
def console(program: bool) -> Iterator[None]:
    """Make the streams take any text and keep matplotlib from windows, and put both back.

    Args:
        program: Whether the process is ours alone, not one that calls a command. Then streams that are closed are
            opened, and those that break are no error.

    Raises:
        RunError: at the end, where standard output could not be written for another reason than a closed pipe.
    """
    if program:
        _open_closed()
        _use_utf8()
        sys.stdout, sys.stderr = _unbreakable(sys.stdout), _unbreakable(sys.stderr)
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    errors = [stream.errors for stream in streams]
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "Agg"
    for stream in streams:
        stream.reconfigure(errors=ANY_TEXT)
    try:
        yield
    finally:
        for stream, before in zip(streams, errors, strict=True):
            stream.reconfigure(errors=before)  # writes all that it holds
        if backend is None:
            os.environ.pop("MPLBACKEND", None)
        else:
            os.environ["MPLBACKEND"] = backend
    raw = sys.stdout.buffer.raw if program and isinstance(sys.stdout.buffer, io.BufferedWriter) else None
    if isinstance(raw, _Output) and raw.failure is not None and not isinstance(raw.failure, BrokenPipeError):
        raise RunError(f"cannot write to standard output: {raw.failure.strerror}")


def _open_closed() -> None:
    """Streams that were closed before the start lead nowhere: a file must not get the number of one."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _to_nowhere(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(nothing, number)
        os.close(nothing)


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode where the locale has another encoding.

    Lightning, jsonargparse and others open files in the encoding of the locale, and ours are UTF-8 everywhere.
    """
    if sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8":
        return
    environment = {"PYTHONIOENCODING": sys.stdout.encoding, **os.environ, "PYTHONUTF8": "1"}
    sys.stdout.flush()
    command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    if sys.platform == "win32":  # where execve gives the prompt back at once, and the exit code is lost
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the console sends Ctrl-C to the command as well
        sys.exit(subprocess.call(command, env=environment))
    os.execve(sys.executable, command, environment)


def _unbreakable(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = _Output(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
