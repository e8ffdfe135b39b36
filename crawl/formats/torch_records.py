"""What a checkpoint's pickle may say, as plain records: tensors, storages, dictionaries, and what cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Opaque", "Storage", "Tensor", "called"]


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `elements` values of torch's type `kind` (FloatStorage, ...), kept under `key`."""

    kind: str
    key: str
    elements: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: `shape` values that lie `strides` apart from `offset` on; `kind` where it has its own."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: str | None = None


@dataclass(slots=True, eq=False)
class Opaque:
    """Something that is not built. `name` is the global it would come from."""

    name: str
    state: Any = field(default=None, repr=False)


def called(called: Any, arguments: Any) -> Any:
    """What a known constructor would build; an Opaque for the others."""
    name = called.name if isinstance(called, Opaque) else "?"
    known = _CONSTRUCTORS.get(name)
    if known is not None and isinstance(arguments, tuple):
        return known(arguments)
    return Opaque(name)


def _ordered_dict(arguments: tuple[Any, ...]) -> Any:
    pairs = arguments[0] if arguments else ()
    found: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int):
            found[pair[0]] = pair[1]
    return found


def _tensor(arguments: tuple[Any, ...]) -> Any:
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Storage):
        return Opaque("torch.Tensor")
    kind = arguments[6].name.rpartition(".")[2] if len(arguments) > 6 and isinstance(arguments[6], Opaque) else None
    shape, strides = _sizes(shape), _sizes(strides)
    if type(offset) is not int or offset < 0 or len(shape) != len(strides):
        raise ValueError("a tensor of no shape")
    return Tensor(storage, offset, shape, strides, kind)


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > 64:
        raise ValueError("a tensor of no shape")
    if not all(type(item) is int and 0 <= item < 2**63 for item in value):
        raise ValueError("a tensor of a shape that is no list of sizes")
    return tuple(value)


def _first(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if arguments else Opaque("?")


def _from_type(arguments: tuple[Any, ...]) -> Any:
    """_rebuild_from_type_v2(function, type, arguments, state)."""
    return called(arguments[0], arguments[2]) if len(arguments) > 2 else Opaque("?")


_CONSTRUCTORS: Final[dict[str, Callable[[tuple[Any, ...]], Any]]] = {
    "collections.OrderedDict": _ordered_dict,
    "builtins.dict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": lambda arguments: tuple(_first(arguments)) if isinstance(_first(arguments), list | tuple) else (),
}
