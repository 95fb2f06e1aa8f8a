"""Pure functions of tensors as machine code, kept on disk between processes.

A function is traced once with make_fx, its gradients included, and compiled ahead of time by AOTInductor into a
package. The package's name is a digest of the graph itself and of what it was compiled for, so it cannot go stale:
another width, method or version of this code is another graph.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varshare_pl.compilation import library, mlp
from varshare_pl.compilation.cache import cache_dir, machine, no_compiler

Compiled = Callable[..., list[Tensor]]


def compile_function(function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor], name: str) -> Compiled:
    """A function as machine code, from the cache or compiled now, which takes some tens of seconds.

    Args:
        function: Takes tensors and gives tensors; no control flow that depends on their values. May use autograd.
        arguments: Of the shapes, types and device that it will be called with.
        name: For the message and the file's name.

    Raises:
        ConfigError: if the machine has no C++ compiler.
    """
    # What torch imports for this takes seconds; a run that does not compile should not wait for it.
    from torch.fx.experimental.proxy_tensor import make_fx

    start = time.perf_counter()
    with _Quiet():
        graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
        path = cache_dir() / f"{name}-{_digest(graph, arguments)}.pt2"
        if not path.exists():
            print(f"compiling {name} for this machine, once ...", file=sys.stderr, flush=True)
            _compile(graph, tuple(arguments), path)
            seconds = time.perf_counter() - start
            print(f"compiled {name} in {seconds:.0f} s, kept in {path.parent}", file=sys.stderr, flush=True)
        model = torch._inductor.aoti_load_package(str(path))

    def call(*arguments: Tensor) -> list[Tensor]:
        # Past the package's own call, which looks for tensors in nested arguments each time.
        return model.loader.boxed_run(list(arguments))

    return call


def _compile(graph: torch.fx.GraphModule, arguments: tuple[Tensor, ...], path: Path) -> None:
    from torch._inductor.exc import InductorError

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        package = str(Path(folder) / "package.pt2")
        try:
            program = torch.export.export(graph, arguments)
            options = _options() | mlp.compiler_options()
            torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=options)
        except (InductorError, RuntimeError) as error:
            if "compiler" in str(error).lower():
                raise no_compiler() from error
            raise
        Path(package).replace(path)  # another process may have done the same meanwhile


def _options() -> dict[str, int]:
    """For the compiler: a vector put together from parts is written part by part.

    Else all that is done with it asks for every element which part it is from: Adam takes five times as long.
    """
    names = ("max_pointwise_cat_inputs", "max_complex_pointwise_cat_inputs")
    return {name: 0 for name in names if hasattr(torch._inductor.config, name)}


def _digest(graph: torch.fx.GraphModule, arguments: Sequence[Tensor]) -> str:
    """Of the graph with its constants, of the arguments, and of all that the machine code depends on."""
    digest = hashlib.sha256()
    for node in graph.graph.nodes:
        digest.update(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs}\n".encode())
    constants = vars(graph) | dict(graph.named_buffers())  # torch keeps them in either
    for constant_name, constant in sorted(constants.items()):
        if isinstance(constant, Tensor):
            digest.update(f"{constant_name} {constant.tolist()}\n".encode())
    for argument in arguments:
        digest.update(f"{tuple(argument.shape)} {argument.stride()} {argument.dtype} {argument.device}\n".encode())
    device = arguments[0].device
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    digest.update(f"{machine()} {card} {torch.get_num_threads()} {library.digest()} {_options()}".encode())
    return digest.hexdigest()[:16]


class _Quiet:
    """Torch's compilers warn and log about themselves."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.getLogger("torch").level
        logging.getLogger("torch").setLevel(logging.ERROR)

    def __exit__(self, *_: Any) -> None:
        logging.getLogger("torch").setLevel(self._level)
        self._warnings.__exit__(None, None, None)
