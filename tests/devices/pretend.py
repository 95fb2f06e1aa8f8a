"""An accelerator for machines without one: tensors that say they are on another device and compute on the CPU.

The device is called "meta". As on a GPU, an operation that mixes its tensors with ones of the CPU fails; allowed are
CPU tensors of one number, CPU indices, and copies.
"""

from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Pretend(torch.Tensor):
    """A tensor on the pretended device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretend":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=DEVICE, **layout)
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the accelerator")

    def tolist(self) -> Any:
        return self.inner.tolist()

    def new_tensor(self, *args: Any, **kwargs: Any) -> "Pretend":
        return Pretend(self.inner.new_tensor(*args, **kwargs))


class Accelerator(TorchDispatchMode):
    """Computes what is asked of the pretended device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        here = [t for t in tensors if isinstance(t, Pretend)]
        asked = kwargs.get("device")
        if here and func not in COPIES:
            checked = args[:1] if func in INDEXING else tensors
            others = [t for t in checked if isinstance(t, torch.Tensor) and not isinstance(t, Pretend) and t.dim()]
            assert not others, f"{func} mixes devices"
        stays = bool(here) if asked is None else asked == DEVICE
        if func is aten.copy_.default:
            stays = isinstance(args[0], Pretend)
        if asked == DEVICE:
            kwargs["device"] = torch.device("cpu")
        inner = {id(t.inner): t for t in here}
        args, kwargs = tree_map(lambda t: t.inner if isinstance(t, Pretend) else t, (args, kwargs))
        result = func(*args, **kwargs)
        self.operations += stays
        if func is aten._to_copy.default and not stays and any(result is t.inner for t in here):
            return result.clone()
        return tree_map(lambda t: self._wrap(t, inner, stays), result)

    @staticmethod
    def _wrap(value: Any, known: dict[int, Pretend], stays: bool) -> Any:
        if not isinstance(value, torch.Tensor) or not stays:
            return value
        return known.get(id(value)) if id(value) in known else Pretend(value)


def move(module: torch.nn.Module) -> None:
    """Put a module's parameters, buffers and metric states onto the pretended device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(Pretend(parameter.detach()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = Pretend(buffer)
        for name in getattr(part, "_defaults", {}):  # of a torchmetrics metric
            setattr(part, name, Pretend(getattr(part, name)))


def no_grad(mode: bool) -> torch.no_grad:
    return torch.no_grad()


@contextmanager
def accelerator():
    """The pretended device is there inside."""
    # Inference mode knows no tensors like these.
    no_inference = mock.patch.object(torch._C, "_InferenceMode", no_grad)
    known = torch.is_autocast_enabled
    # Nor does autocast know the device; of a real one it would say the same.
    no_autocast = mock.patch.object(
        torch, "is_autocast_enabled", lambda *device: device != ("meta",) and known(*device)
    )
    with no_inference, no_autocast, Accelerator() as mode:
        yield mode
