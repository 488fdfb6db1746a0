"""A second device to try code on: it computes on the processor and refuses what a GPU refuses.

A tensor of it keeps its numbers in an ordinary one. Every operation that torch dispatches comes by here: one
on tensors of both devices is an error, as with a GPU, except for what a GPU takes as well (a single number,
indices, a copy). What comes out is what the processor says, so results can be compared.

torch learns of the device when this is imported, and must before it computes its first gradient: tests that
use it run in a process of their own (scantwin/test_devices.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from scantwin.learning import machine

_NAME: Final = "elsewhere"
_BETWEEN: Final = ("aten::_to_copy", "aten::copy_")
"""Operations that may have tensors of both devices."""
_INDEXING: Final = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Operations whose indices may be on the processor."""
_INDICES: Final = (torch.int64, torch.bool)


class _Module(backend_registration._DummyBackendModule):
    """What torch asks a backend for besides tensors."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend(_NAME, _Module())


class _Away(Tensor):
    """A tensor elsewhere; `held` is where its numbers really are."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _Away:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(_NAME, 0),
        )  # fmt: skip
        made.held = held
        return made

    def numpy(self, **_: Any) -> Any:
        raise TypeError("a tensor elsewhere is no array: copy it to the processor first")

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"elsewhere: {self.held}"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Catches what makes tensors elsewhere of nothing, or of ordinary ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `func` says, where its tensors are or where it was told to put its result."""
    name, device = func._schema.name, kwargs.get("device")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = {id(one.held): one for one in tensors if isinstance(one, _Away)}
    if away and name not in _BETWEEN:
        for one in tensors:
            index = name in _INDEXING and one.dtype in _INDICES
            if not isinstance(one, _Away) and one.dim() and not index:
                raise RuntimeError(f"{name} got tensors of two devices; {tuple(one.shape)} is not elsewhere")
    goes = bool(away) if device is None else torch.device(device).type == _NAME
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}

    def held(value: Any) -> Any:
        return value.held if isinstance(value, _Away) else value

    def brought(value: Any) -> Any:
        if not isinstance(value, Tensor) or not goes:
            return value
        return away[id(value)] if id(value) in away else _Away(value)

    return tree_map(brought, func(*tree_map(held, args), **tree_map(held, kwargs)))


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Systems that are built within it have their networks elsewhere."""
    device, before = torch.device(_NAME, 0), machine._device
    machine._device = device
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # numbers become a tensor first, which is moved then
    try:
        with _Mode():
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
        machine._device = before
