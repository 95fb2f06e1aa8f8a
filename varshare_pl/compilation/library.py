"""The C++ of this package: built by the compiler that torch finds, once for a machine."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from varshare_pl.compilation.cache import cache_dir, machine, no_compiler
from varshare_pl.errors import ConfigError

SOURCE = Path(__file__).with_name("mlp.cpp")
# The kernels take no notice of floating-point exceptions, without which the compiler may use vectors.
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")


@cache
def digest() -> str:
    """Of the source and of all that the library depends on."""
    return hashlib.sha256(SOURCE.read_bytes() + f"{FLAGS} {machine()}".encode()).hexdigest()[:16]


@cache
def load() -> ctypes.CDLL:
    """The library, from the cache or built now, which takes some seconds.

    Its names can be seen by what is loaded later: compiled functions call them.

    Raises:
        ConfigError: if the machine has no C++ compiler that can build it.
    """
    path = cache_dir() / f"mlp-{digest()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            _build(built)
            built.replace(path)  # another process may have done the same meanwhile
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _build(path: Path) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        compiler = get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise no_compiler() from error
    torch_files = Path(torch.__file__).parent
    places = f"-I{torch_files / 'include'}", f"-L{torch_files / 'lib'}"
    command = [compiler, *FLAGS, *places, str(SOURCE), "-o", str(path), "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise ConfigError(f"model.compile: {compiler} could not build {SOURCE.name}: {said.strip()}")
