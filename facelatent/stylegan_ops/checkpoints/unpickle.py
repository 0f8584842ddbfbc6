"""An interpreter for pickles that can only build data.

Python's own unpickler, even with ``find_class`` restricted, calls what the file asks for, sets attributes of what the
file names, and allocates the sizes that the file declares. This one knows no class and no function: a global is looked
up in a table of :class:`Builder`; everything else ends in :class:`~facelatent.errors.UnsafeCheckpoint`. It makes plain
lists, dicts, strings and numbers, and never copies large byte strings: they are views of the file.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from facelatent.errors import UnsafeCheckpoint, UnsupportedCheckpoint

#: Byte strings of at least this size stay views of the file.
_VIEW_SIZE = 1 << 12
#: Integers beyond this many bytes are not found in checkpoints, and printing them would take for ever.
_INTEGER_BYTES = 16
_NAME_LENGTH = 100
#: Lines are looked for this far; the short try serves nearly all of them.
_LINE_LENGTHS = (128, 1 << 16)

Global = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Builder:
    """What an allowed global stands for: a function of our own that makes data from plain arguments."""

    name: str
    build: Callable[..., Any]


class Record:
    """An object of an allowed class: its name and its state, nothing of its behaviour."""

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: Any = None) -> None:
        self.class_name = class_name
        self.state = state

    def set_state(self, state: Any) -> None:
        """Take the state that the pickle gives."""
        self.state = state


class Truncated(Exception):
    """The pickle ends, or its stack runs empty, before it should."""


_MARK = object()
_SCALARS = (str, int, float, bool, bytes, type(None))


class Interpreter:
    """Reads one pickle after another from ``data``.

    Args:
        data: the file's bytes.
        allowed: what each (module, name) may build; anything else is refused by name.
        persistent: makes the value of a persistent id (PyTorch's storages), where the container has them.
        position: where the first pickle starts.
    """

    def __init__(
        self,
        data: memoryview,
        allowed: Mapping[Global, Any],
        persistent: Callable[[Any], Any] | None = None,
        position: int = 0,
    ) -> None:
        self.data = data
        self.allowed = allowed
        self.persistent = persistent
        self.position = position
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The next pickle's value; ``position`` moves behind it.

        Raises:
            UnsafeCheckpoint: it names a global outside the table, or does to one what only running code would.
            UnsupportedCheckpoint: an opcode that no checkpoint uses.
            Truncated: it ends early. Damaged ones also raise ValueError, TypeError, KeyError or struct.error.
        """
        self._stack, self._memo = [], {}
        while (opcode := self._take(1)[0]) != _STOP:
            action = _ACTIONS.get(opcode)
            if action is None:
                raise UnsupportedCheckpoint(f"pickle opcode {bytes([opcode])!r}, which no checkpoint uses")
            action(self)
        return self._pop()

    def _take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise Truncated(f"{count} bytes declared, {len(self.data) - self.position} left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _unpack(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        for limit in _LINE_LENGTHS:
            text = bytes(self.data[self.position : self.position + limit])
            end = text.find(b"\n")
            if end >= 0:
                self.position += end + 1
                return text[:end].decode()
        raise Truncated(f"no end of line within {limit} bytes")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise Truncated("the pickle's stack is empty")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise Truncated("the pickle's stack is empty")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise Truncated("the pickle has no mark")

    def push_bytes(self, count: int) -> None:
        """Push ``count`` bytes: a copy if small, else a view."""
        view = self._take(count)
        self._push(bytes(view) if count < _VIEW_SIZE else view)

    def push_text(self, count: int) -> None:
        """Push ``count`` bytes of UTF-8 text."""
        self._push(str(self._take(count), "utf-8", "surrogatepass"))

    def push_integer(self, count: int) -> None:
        """Push a little-endian signed integer of ``count`` bytes."""
        if not 0 <= count <= _INTEGER_BYTES:
            raise ValueError(f"integer of {count} bytes")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def push_line(self, convert: Callable[[str], Any]) -> None:
        """Push what ``convert`` makes of a line of text (protocol 0)."""
        line = self._line()
        if convert is int and line in ("00", "01"):
            self._push(line == "01")
        else:
            self._push(convert(line[:64]) if convert in (int, float) else convert(line))

    def push_global(self, module: Any, name: Any) -> None:
        """Push what the table has for a global, or refuse it by name."""
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global's name is not text")
        # Python 2 called this module otherwise; protocols up to 2 still do.
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in self.allowed:
            raise UnsafeCheckpoint(f"it asks for {f'{module}.{name}'[:_NAME_LENGTH]!r}, which is not plain weights")
        self._push(self.allowed[module, name])

    def global_line(self) -> None:
        """GLOBAL: the names as two lines."""
        module = self._line()
        self.push_global(module, self._line())

    def global_stack(self) -> None:
        """STACK_GLOBAL: the names from the stack."""
        name, module = self._pop(), self._pop()
        self.push_global(module, name)

    def instance(self) -> None:
        """INST: a class by name, called; no checkpoint has it, but its name belongs in the message."""
        self.global_line()
        raise UnsupportedCheckpoint("pickle opcode INST, which no checkpoint uses")

    def call(self) -> None:
        """REDUCE and NEWOBJ: call a builder with a tuple of arguments."""
        arguments, builder = self._pop(), self._pop()
        self._call(builder, arguments)

    def call_with_keywords(self) -> None:
        """NEWOBJ_EX: as NEWOBJ, with keyword arguments, which must be empty."""
        keywords = self._pop()
        if keywords != {}:
            raise UnsafeCheckpoint("it calls a class with keyword arguments")
        self.call()

    def _call(self, builder: Any, arguments: Any) -> None:
        if not isinstance(builder, Builder):
            raise UnsafeCheckpoint(f"it calls a {type(builder).__name__}, which is not a class of checkpoints")
        if type(arguments) is not tuple:
            raise TypeError("arguments are not a tuple")
        self._push(builder.build(*arguments))

    def set_state(self) -> None:
        """BUILD: hand a state to an object of ours; the state of a dict subclass (its attributes) is dropped."""
        state, target = self._pop(), self._top()
        setter = getattr(target, "set_state", None)
        if setter is not None:
            setter(state)
        elif not isinstance(target, dict):
            raise UnsafeCheckpoint(f"it sets attributes of a {type(target).__name__}")

    def memoize(self, index: int) -> None:
        """Remember the top of the stack under ``index``."""
        self._memo[index] = self._top()

    def recall(self, index: int) -> None:
        """Push what is remembered under ``index``."""
        self._push(self._memo[index])

    def set_items(self, items: list[Any]) -> None:
        """SETITEM(S): keys and values in turn, into the dict on top."""
        target = self._top()
        if type(target) is not dict or len(items) % 2:
            raise TypeError("items for something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    def append(self, items: list[Any]) -> None:
        """APPEND(S): to the list on top."""
        target = self._top()
        if type(target) is not list:
            raise TypeError("items for something that is not a list")
        target.extend(items)

    def add(self) -> None:
        """ADDITEMS: to the set on top."""
        items, target = self._pop_to_mark(), self._top()
        if type(target) is not set:
            raise TypeError("items for something that is not a set")
        target.update(plain_key(item) for item in items)

    def persist(self) -> None:
        """BINPERSID: what a persistent id stands for."""
        if self.persistent is None:
            raise UnsupportedCheckpoint("persistent ids in a plain pickle")
        self._push(self.persistent(self._pop()))

    def protocol(self) -> None:
        """PROTO: the protocol, up to 5."""
        if self._take(1)[0] > 5:
            raise UnsupportedCheckpoint("a pickle protocol above 5")

    def dictionary(self) -> None:
        """DICT: a new dict of the items since the mark."""
        items = self._pop_to_mark()
        self._push({})
        self.set_items(items)

    def tuple_of(self, count: int) -> None:
        """TUPLE1 to TUPLE3."""
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))


def plain_key(key: Any) -> Any:
    """A dict key or set item: scalars only, since hashing shared nested tuples can take exponential time."""
    if type(key) not in _SCALARS:
        raise TypeError(f"a {type(key).__name__} as a key")
    return key


_STOP = pickle.STOP[0]

#: Every opcode that is understood. EXT1 to EXT4, OBJ, PERSID and BUFFER opcodes are not: no checkpoint uses them.
_ACTIONS: dict[int, Callable[[Interpreter], Any]] = {
    opcode[0]: action
    for opcode, action in (
        (pickle.PROTO, Interpreter.protocol),
        (pickle.FRAME, lambda vm: vm._take(8)),
        (pickle.MARK, lambda vm: vm._push(_MARK)),
        (pickle.POP, lambda vm: vm._stack.pop() if vm._stack else vm._pop()),
        (pickle.POP_MARK, Interpreter._pop_to_mark),
        (pickle.DUP, lambda vm: vm._push(vm._top())),
        (pickle.NONE, lambda vm: vm._push(None)),
        (pickle.NEWTRUE, lambda vm: vm._push(True)),
        (pickle.NEWFALSE, lambda vm: vm._push(False)),
        (pickle.INT, lambda vm: vm.push_line(int)),
        (pickle.LONG, lambda vm: vm.push_line(lambda line: int(line.rstrip("L")[:64]))),
        (pickle.FLOAT, lambda vm: vm.push_line(float)),
        (pickle.UNICODE, lambda vm: vm.push_line(str)),
        (pickle.STRING, lambda vm: vm.push_line(lambda line: line[1:-1])),
        (pickle.BININT, lambda vm: vm._push(vm._unpack("<i"))),
        (pickle.BININT1, lambda vm: vm._push(vm._unpack("<B"))),
        (pickle.BININT2, lambda vm: vm._push(vm._unpack("<H"))),
        (pickle.LONG1, lambda vm: vm.push_integer(vm._unpack("<B"))),
        (pickle.LONG4, lambda vm: vm.push_integer(vm._unpack("<i"))),
        (pickle.BINFLOAT, lambda vm: vm._push(vm._unpack(">d"))),
        (pickle.SHORT_BINBYTES, lambda vm: vm.push_bytes(vm._unpack("<B"))),
        (pickle.BINBYTES, lambda vm: vm.push_bytes(vm._unpack("<I"))),
        (pickle.BINBYTES8, lambda vm: vm.push_bytes(vm._unpack("<Q"))),
        (pickle.BYTEARRAY8, lambda vm: vm.push_bytes(vm._unpack("<Q"))),
        (pickle.SHORT_BINSTRING, lambda vm: vm._push(str(vm._take(vm._unpack("<B")), "latin-1"))),
        (pickle.BINSTRING, lambda vm: vm._push(str(vm._take(vm._unpack("<I")), "latin-1"))),
        (pickle.SHORT_BINUNICODE, lambda vm: vm.push_text(vm._unpack("<B"))),
        (pickle.BINUNICODE, lambda vm: vm.push_text(vm._unpack("<I"))),
        (pickle.BINUNICODE8, lambda vm: vm.push_text(vm._unpack("<Q"))),
        (pickle.EMPTY_LIST, lambda vm: vm._push([])),
        (pickle.EMPTY_DICT, lambda vm: vm._push({})),
        (pickle.EMPTY_SET, lambda vm: vm._push(set())),
        (pickle.EMPTY_TUPLE, lambda vm: vm._push(())),
        (pickle.LIST, lambda vm: vm._push(vm._pop_to_mark())),
        (pickle.DICT, Interpreter.dictionary),
        (pickle.TUPLE, lambda vm: vm._push(tuple(vm._pop_to_mark()))),
        (pickle.TUPLE1, lambda vm: vm.tuple_of(1)),
        (pickle.TUPLE2, lambda vm: vm.tuple_of(2)),
        (pickle.TUPLE3, lambda vm: vm.tuple_of(3)),
        (pickle.FROZENSET, lambda vm: vm._push(frozenset(map(plain_key, vm._pop_to_mark())))),
        (pickle.APPEND, lambda vm: vm.append([vm._pop()])),
        (pickle.APPENDS, lambda vm: vm.append(vm._pop_to_mark())),
        (pickle.SETITEM, lambda vm: vm.set_items([vm._pop(), vm._pop()][::-1])),
        (pickle.SETITEMS, lambda vm: vm.set_items(vm._pop_to_mark())),
        (pickle.ADDITEMS, Interpreter.add),
        (pickle.PUT, lambda vm: vm.memoize(int(vm._line()[:20]))),
        (pickle.BINPUT, lambda vm: vm.memoize(vm._unpack("<B"))),
        (pickle.LONG_BINPUT, lambda vm: vm.memoize(vm._unpack("<I"))),
        (pickle.MEMOIZE, lambda vm: vm.memoize(len(vm._memo))),
        (pickle.GET, lambda vm: vm.recall(int(vm._line()[:20]))),
        (pickle.BINGET, lambda vm: vm.recall(vm._unpack("<B"))),
        (pickle.LONG_BINGET, lambda vm: vm.recall(vm._unpack("<I"))),
        (pickle.GLOBAL, Interpreter.global_line),
        (pickle.STACK_GLOBAL, Interpreter.global_stack),
        (pickle.INST, Interpreter.instance),
        (pickle.REDUCE, Interpreter.call),
        (pickle.NEWOBJ, Interpreter.call),
        (pickle.NEWOBJ_EX, Interpreter.call_with_keywords),
        (pickle.BUILD, Interpreter.set_state),
        (pickle.BINPERSID, Interpreter.persist),
    )
}
