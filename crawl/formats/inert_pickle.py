"""What a pickle says, read without running it: its opcodes are walked, and nothing in it is imported or called.

A checkpoint's pickle is a dictionary of tensor records. The few constructors that torch.save writes are known by
name and become plain records here (`Tensor`, `Storage`, dict, list); everything else becomes `Opaque`, which has a
name and a state and can do nothing. Memory is bounded by the length of the pickle, which the caller bounds.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, Final, Protocol

from crawl.formats.torch_records import Builder, Opaque, Storage, is_key
from crawl.names import escaped
from store.errors import SkipError

__all__ = ["ByteStream", "read_pickle"]

MAX_OPCODES: Final = 2_000_000
MAX_INTEGER: Final = 1 << 16
"""Bytes of one integer: none that a checkpoint needs is longer than nine."""
MAX_GLOBAL: Final = 1024
"""Characters of a global's name: two opcodes and a memo could join texts of megabytes again and again."""


class ByteStream(Protocol):
    """What pickletools reads from. `read` gives fewer bytes than asked for where there are no more, and allocates no
    more than there are."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


class _Mark:
    pass


def read_pickle(stream: ByteStream, shown: str) -> tuple[Any, dict[str, Storage]]:
    """The object that the pickle at the start of `stream` describes, and all storages that it names, by key.

    Reads up to its STOP and no further.

    Raises SkipError("bad_pickle", ...) when it is none, or is beyond the limits.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count > MAX_OPCODES:
                raise SkipError("bad_pickle", f"{shown}: expected at most {MAX_OPCODES} opcodes, found more")
            if opcode.name == "STOP":
                return machine.stack.pop(), machine.storages
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = escaped(f"{type(error).__name__}: {error}"[:160])
        raise SkipError("bad_pickle", f"{shown}: expected a pickle of tensors, found {said}") from error
    raise SkipError("bad_pickle", f"{shown}: expected a pickle that ends, found none")


class _Machine:
    """The stack, the memo, and the opcodes that a checkpoint may hold."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.builder = Builder(MAX_OPCODES)

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > 8 * MAX_INTEGER:
                raise ValueError("a huge number")
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"opcode {name}")

    def above_mark(self) -> list[Any]:
        """What lies above the last mark, taken off with it."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], _Mark):
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    def memoize(self, argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def global_name(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self.stack.append(Opaque(f"{module}.{name}"))

    def stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        texts = isinstance(name, str) and isinstance(module, str) and len(name) + len(module) <= MAX_GLOBAL
        self.stack.append(Opaque(f"{module}.{name}" if texts else "?"))

    def persistent(self, argument: Any) -> None:
        told = self.stack.pop() if argument is None else argument
        if isinstance(told, tuple) and len(told) >= 5 and told[0] == "storage" and isinstance(told[1], Opaque):
            key, elements = told[2], told[4]
            if type(elements) is not int or elements < 0 or not is_key(key):
                raise ValueError("a storage without a size")
            kind = told[1].name.rpartition(".")[2]
            # Before torch 1.6 a storage may be a view of another: (key, offset, elements).
            view = told[5] if len(told) > 5 else None
            if view is not None:
                self.stack.append(Opaque("torch.Storage view"))
                return
            storage = self.storages.setdefault(str(key), Storage(kind, str(key), elements))
            self.stack.append(storage)
        else:
            self.stack.append(Opaque("persistent id"))

    def reduce(self, argument: Any) -> None:
        arguments, constructor = self.stack.pop(), self.stack.pop()
        self.stack.append(self.builder.called(constructor, arguments))

    def new_object(self, argument: Any) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self.stack.append(self.builder.called(cls, arguments))

    def new_object_ex(self, argument: Any) -> None:
        self.stack.pop()
        self.new_object(argument)

    def instance(self, argument: Any) -> None:
        self.above_mark()
        self.stack.append(Opaque(str(argument).replace(" ", ".")))

    def object_of_class(self, argument: Any) -> None:
        taken = self.above_mark()
        self.stack.append(Opaque(taken[0].name if taken and isinstance(taken[0], Opaque) else "?"))

    def build(self, argument: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        # The items of a subclass of dict stay, not its attributes: to join the two again and again would cost a square.
        if isinstance(target, Opaque) and not (isinstance(target.state, dict) and target.state):
            target.state = state

    def append(self, argument: Any) -> None:
        value = self.stack.pop()
        self.extend([value])

    def appends(self, argument: Any) -> None:
        self.extend(self.above_mark())

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)

    def set_item(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def set_items(self, argument: Any) -> None:
        self.fill(self.above_mark())

    def fill(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            # A subclass of dict that is not known by name, such as Lightning's AttributeDict.
            if not isinstance(target.state, dict):
                target.state = {}
            target = target.state
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                if is_key(key):
                    target[key] = value

    def tuple_of(self, count: int | None) -> None:
        taken = self.above_mark() if count is None else self.stack[len(self.stack) - count :]
        if count is not None:
            if len(taken) < count:
                raise ValueError("an empty stack")
            del self.stack[len(self.stack) - count :]
        self.stack.append(tuple(taken))


_VALUES: Final = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "MARK": _Mark,
    "EXT1": lambda: Opaque("extension"),
    "EXT2": lambda: Opaque("extension"),
    "EXT4": lambda: Opaque("extension"),
}
_IGNORED: Final = frozenset(["PROTO", "FRAME"])
_STEPS: Final[dict[str, Callable[[_Machine, Any], object]]] = {
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_ex,
    "INST": _Machine.instance,
    "OBJ": _Machine.object_of_class,
    "BUILD": _Machine.build,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.above_mark()),
    "DICT": lambda machine, _: machine.stack.append(_pairs(machine.above_mark())),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.above_mark()),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.above_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
}


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[::2]
    return {key: value for key, value in zip(keys, values[1 : 2 * len(keys)], strict=False) if is_key(key)}
