"""Runs a device program without the kernel, to find out whether a container may open a node. Pure.

It understands the programs of runc, crun, systemd and this project, also with blinded constants, and reports programs
that it does not understand. The instruction set is described in Documentation/bpf/standardization/instruction-set.rst,
the context of device programs in `device_program`.
"""

from __future__ import annotations

from struct import iter_unpack, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

READ_WRITE: Final = 6  # BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE
_CHAR: Final = 2  # BPF_DEVCG_DEV_CHAR

_LOADS: Final = {0x61: ("<I", 4), 0x69: ("<H", 2), 0x71: ("<B", 1)}  # BPF_LDX | BPF_MEM | BPF_W, BPF_H, BPF_B
_MOV_REGISTER: Final = 0xBF
_XOR_REGISTER: Final = (0xAF, 0xAC)
_EXIT: Final = 0x95
_FROM_REGISTER: Final = 0x08
# Classes, by the low three bits of the opcode.
_ALU: Final = (4, 7)
_JUMP: Final = (5, 6)
_MASKS: Final = {4: (1 << 32) - 1, 7: (1 << 64) - 1, 5: (1 << 64) - 1, 6: (1 << 32) - 1}

# Operations, by the high four bits of the opcode.
_ARITHMETIC: Final[dict[int, Callable[[int, int], int]]] = {
    0x00: lambda left, right: left + right,
    0x10: lambda left, right: left - right,
    0x40: lambda left, right: left | right,
    0x50: lambda left, right: left & right,
    0x60: lambda left, right: left << right,
    0x70: lambda left, right: left >> right,
    0xA0: lambda left, right: left ^ right,
    0xB0: lambda _left, right: right,
}
_SHIFTS: Final = (0x60, 0x70)
_COMPARISONS: Final[dict[int, Callable[[int, int], bool]]] = {
    0x00: lambda _left, _right: True,
    0x10: lambda left, right: left == right,
    0x20: lambda left, right: left > right,
    0x30: lambda left, right: left >= right,
    0x40: lambda left, right: left & right != 0,
    0x50: lambda left, right: left != right,
    0xA0: lambda left, right: left < right,
    0xB0: lambda left, right: left <= right,
}
_NOTHING: Final = -1  # the value of a register that was never written
_CONTEXT: Final = -2  # the value of a register that holds the context's address


def permits(code: bytes, major: int, minor: int, access: int = READ_WRITE, kind: int = _CHAR) -> bool | None:
    """Tell whether the program permits `access` to a node; None if the program is not understood.

    It ends after at most as many steps as there are instructions, because only forward jumps are allowed.
    """
    if len(code) % 8:
        return None
    context = pack("<III", access << 16 | kind, major, minor)
    program = list(iter_unpack("<BBhi", code))
    registers = [_NOTHING] * 16
    registers[1] = _CONTEXT
    at = 0
    while at < len(program):
        opcode, pair, offset, immediate = program[at]
        at += 1
        target, source = pair & 15, pair >> 4
        right = registers[source] if opcode & _FROM_REGISTER else immediate & _MASKS.get(opcode & 7, 0)
        if opcode == _EXIT:
            return None if registers[0] < 0 else registers[0] != 0
        if opcode in _LOADS:
            value = _loaded(opcode, context, registers[source], offset)
        elif opcode == _MOV_REGISTER and not offset:
            value = right
        elif opcode in _XOR_REGISTER and target == source:
            value = 0
        elif opcode & 7 in _ALU:
            value = None if offset else _computed(opcode, registers[target], right)
        else:
            jumps = _jumps(opcode, registers[target], right)
            if jumps is None or offset < 0:
                return None
            at += offset if jumps else 0
            continue
        if value is None:
            return None
        registers[target] = value
    return None


def _loaded(opcode: int, context: bytes, address: int, offset: int) -> int | None:
    """Return the value that a BPF_LDX instruction reads from the context."""
    layout, size = _LOADS[opcode]
    if address != _CONTEXT or not 0 <= offset <= len(context) - size:
        return None
    value: int = unpack_from(layout, context, offset)[0]
    return value


def _computed(opcode: int, left: int, right: int) -> int | None:
    """Return the result of a BPF_ALU or BPF_ALU64 instruction."""
    kind = opcode & 0xF0
    operation = _ARITHMETIC.get(kind)
    if kind == 0xB0:
        left = 0
    mask = _MASKS[opcode & 7]
    if operation is None or left < 0 or right < 0 or (kind in _SHIFTS and right >= mask.bit_length()):
        return None
    return operation(left & mask, right & mask) & mask


def _jumps(opcode: int, left: int, right: int) -> bool | None:
    """Tell whether a BPF_JMP or BPF_JMP32 instruction jumps."""
    comparison = _COMPARISONS.get(opcode & 0xF0)
    if comparison is None or opcode & 7 not in _JUMP or opcode == 0x06:  # 0x06: a long jump
        return None
    if opcode == 0x05:
        return True
    if left < 0 or right < 0:
        return None
    mask = _MASKS[opcode & 7]
    return comparison(left & mask, right & mask)
