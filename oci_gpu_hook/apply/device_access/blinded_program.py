"""Restores the constants of a program that a hardened JIT has blinded (net.core.bpf_jit_harden=2). Pure.

The kernel replaces an instruction with a constant by three: r11 = constant ^ random; r11 ^= random; the instruction
with r11 in place of the constant. It replaces setting a register to 0 by an xor of the register with itself
(kernel/bpf/core.c, bpf_jit_blind_insn). Only the kernel may use r11 (BPF_REG_AX), so such a program cannot be loaded
again as it is.
"""

from __future__ import annotations

from struct import iter_unpack, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    Instruction: TypeAlias = tuple[int, int, int, int]  # opcode, registers, offset, constant

_BLINDING: Final = 11  # BPF_REG_AX
_BLINDED_IN: Final = ((0xB7, 0xA7), (0xB4, 0xA4))  # BPF_MOV and BPF_XOR with a constant, of 64 and of 32 bits
_CLASSES: Final = (4, 5, 6, 7)  # BPF_ALU, BPF_JMP, BPF_JMP32, BPF_ALU64
_JUMPS: Final = (5, 6)
_NO_JUMPS: Final = (0x85, 0x8D, 0x95)  # BPF_CALL, by number and by register; BPF_EXIT
_LONG_JUMP: Final = 0x06
_FROM_REGISTER: Final = 0x08
_XOR: Final = (0xAF, 0xAC)  # with a register
_SET: Final = 0xB7  # to a constant


def restored(code: bytes) -> bytes | None:
    """Return the program before its constants were blinded; None if that cannot be determined for certain."""
    if len(code) % 8:
        return None
    blinded = list(iter_unpack("<BBhi", code))
    places: dict[int, int] = {}  # index of an instruction in the blinded program → its index in the restored one
    found: list[tuple[Instruction, int]] = []  # an instruction, and the index of the next one in the blinded program
    at = 0
    while at < len(blinded):
        places[at] = len(found)
        instruction, length = _unblinded(blinded[at : at + 3])
        if instruction is None:
            return None
        at += length
        found.append((instruction, at))
    lines = []
    for index, ((opcode, registers, offset, constant), following) in enumerate(found):
        if opcode & 7 in _JUMPS and opcode not in _NO_JUMPS:
            target = places.get(following + offset)
            if target is None:
                return None
            lines.append(pack("<BBhi", opcode, registers, target - index - 1, constant))
        else:
            lines.append(pack("<BBhi", opcode, registers, offset, constant))
    return b"".join(lines)


def _unblinded(blinded: Sequence[Instruction]) -> tuple[Instruction | None, int]:
    """Return the instruction that the first one, or the first three together, represent, and how many those are."""
    opcode, registers, offset, constant = blinded[0]
    length = 1
    if registers == _BLINDING and len(blinded) == 3:
        (mask_opcode, mask_registers, _, mask), (operation, registers, offset, _) = blinded[1:]
        of_two = (opcode, mask_opcode) in _BLINDED_IN and mask_registers == _BLINDING
        of_last = operation & 7 in _CLASSES and operation & _FROM_REGISTER and registers >> 4 == _BLINDING
        if not of_two or not of_last:
            return None, 0
        opcode, registers, constant = operation & ~_FROM_REGISTER, registers & 15, constant ^ mask
        length = 3
    elif opcode in _XOR and registers >> 4 == registers & 15:
        opcode, registers = _SET, registers & 15
    if _BLINDING in (registers & 15, registers >> 4) or opcode == _LONG_JUMP:
        return None, 0
    return (opcode, registers, offset, constant), length
