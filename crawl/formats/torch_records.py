"""What a checkpoint's pickle may say, as plain records: tensors, storages, dictionaries, and what cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Builder", "Opaque", "Storage", "Tensor", "is_key"]


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


def is_key(value: Any) -> bool:
    """True for what a dictionary or a storage can be found by. Longer numbers than these Python would not print."""
    return isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() <= 64)


class Builder:
    """Builds what the known constructors build, from `room` items of lists at most: a pickle can hand the same list to
    a constructor again and again, and each time it is copied."""

    def __init__(self, room: int) -> None:
        self._room = room

    def called(self, called: Any, arguments: Any) -> Any:
        """What a known constructor would build; an Opaque for the others. Raises ValueError beyond the room."""
        name = called.name if isinstance(called, Opaque) else "?"
        if not isinstance(arguments, tuple):
            return Opaque(name)
        if name in _FROM_TYPE:
            # (function, type, arguments, state)
            return self.called(arguments[0], arguments[2]) if len(arguments) > 2 else Opaque("?")
        if name in _COPYING:
            first = arguments[0] if arguments else ()
            self._room -= len(first) if isinstance(first, list | tuple) else 0
            if self._room < 0:
                raise ValueError("lists that are copied again and again")
            return _COPYING[name](first)
        known = _CONSTRUCTORS.get(name)
        return known(arguments) if known is not None else Opaque(name)


def _ordered_dict(pairs: Any) -> Any:
    found: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2 and is_key(pair[0]):
            found[pair[0]] = pair[1]
    return found


def _size(sizes: Any) -> Any:
    return tuple(sizes) if isinstance(sizes, list | tuple) else ()


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
    # A tuple is kept as it is. A list would be copied for each tensor that names it.
    if not isinstance(value, tuple) or len(value) > 64:
        raise ValueError("a tensor of no shape")
    if not all(type(item) is int and 0 <= item < 2**63 for item in value):
        raise ValueError("a tensor of a shape that is no list of sizes")
    return value


def _first(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if arguments else Opaque("?")


_FROM_TYPE: Final = frozenset(("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"))
_COPYING: Final[dict[str, Callable[[Any], Any]]] = {
    "collections.OrderedDict": _ordered_dict,
    "builtins.dict": _ordered_dict,
    "torch.Size": _size,
}
_CONSTRUCTORS: Final[dict[str, Callable[[tuple[Any, ...]], Any]]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    # Of a module that was traced: what a plain one would be given as its state.
    "torch.fx.graph_module.reduce_graph_module": _first,
}
