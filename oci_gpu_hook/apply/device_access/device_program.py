"""Builds and reads device programs, which decide on cgroup v2 whether a container may open a device node. Pure.

A program gets `struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor}` in r1 and returns 1 to permit. The
low half of access_type is the type of the node, the high half the requested access (include/uapi/linux/bpf.h). An
instruction is eight bytes: opcode, destination and source register, jump offset, immediate
(Documentation/bpf/standardization/instruction-set.rst).
"""

from __future__ import annotations

from struct import pack, unpack_from

from oci_gpu_hook.devices.edits import type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Numbers as Node

INSTRUCTION_SIZE: Final = 8
BLOCK: Final = 1  # BPF_DEVCG_DEV_BLOCK
CHAR: Final = 2  # BPF_DEVCG_DEV_CHAR
KINDS: Final = {"b": BLOCK, "c": CHAR}
ACCESS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
_MKNOD_OR_TYPE: Final = 0x1FFFF  # of access_type: the type and, above it, the bit for mknod

_LOAD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_LOAD_64: Final = 0x18  # BPF_LD | BPF_IMM | BPF_DW, how programs refer to maps
_MOV: Final = 0xB7
_AND_32: Final = 0x54
_JNE: Final = 0x55
_CALL: Final = 0x85
_CALL_REGISTER: Final = 0x8D
_EXIT: Final = 0x95
_BLINDING_REGISTER: Final = 11  # BPF_REG_AX, which only a hardened JIT uses and the verifier refuses

_PROLOGUE: Final = 5  # instructions of this project's prefix before its first rule
_RULE: Final = 4  # instructions of each rule
_MOST: Final = 8191  # rules after one prologue, whose jump over them has an offset of 15 bits


def instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """Assemble one instruction."""
    return pack("<BBhi", opcode, source << 4 | destination, offset, immediate)


_RETURN: Final = tuple(instruction(_MOV, 0, immediate=answer) + instruction(_EXIT) for answer in (0, 1))


def kind_of(node: Node) -> int:
    """Return the type of a device as a program gets it."""
    return KINDS[type_of(node)]


def prefix(nodes: Sequence[Node], *, permits: bool = True) -> bytes:
    """Return instructions that permit, or refuse, reading and writing `nodes`, and fall through for all else.

    There is a prologue for each stretch of nodes of one type.
    """
    kind = kind_of(nodes[0])
    alike = next((at for at, node in enumerate(nodes) if kind_of(node) != kind), len(nodes))
    if (end := min(alike, _MOST)) < len(nodes):
        return prefix(nodes[:end], permits=permits) + prefix(nodes[end:], permits=permits)
    rules = b"".join(
        instruction(_JNE, 2, offset=3, immediate=node[0])
        + instruction(_JNE, 3, offset=2, immediate=node[1])
        + _RETURN[permits]
        for node in nodes
    )
    return (
        instruction(_LOAD, 2, 1, 0)
        + instruction(_AND_32, 2, immediate=_MKNOD_OR_TYPE)
        + instruction(_JNE, 2, offset=2 + _RULE * len(nodes), immediate=kind)
        + instruction(_LOAD, 2, 1, 4)
        + instruction(_LOAD, 3, 1, 8)
        + rules
    )


def split(code: bytes) -> tuple[tuple[Node, ...], bytes]:
    """Return the nodes in prefixes of this project that permit, `()` if there is none, and the program after them."""
    return _split(code, permits=True)


def _split(code: bytes, *, permits: bool) -> tuple[tuple[Node, ...], bytes]:
    nodes: tuple[Node, ...] = ()
    found, code = _split_first(code, permits=permits)
    while found:
        nodes += found
        found, code = _split_first(code, permits=permits)
    return nodes, code


def _split_first(code: bytes, *, permits: bool) -> tuple[tuple[Node, ...], bytes]:
    if len(code) < _PROLOGUE * INSTRUCTION_SIZE:
        return (), code
    offset, kind = unpack_from("<hi", code, 2 * INSTRUCTION_SIZE + 2)
    last = ("b",) if kind == BLOCK else ()
    end = (3 + offset) * INSTRUCTION_SIZE
    first = _PROLOGUE * INSTRUCTION_SIZE
    if not first < end <= len(code) or (offset - 2) % _RULE:
        return (), code
    nodes = tuple(
        (*unpack_from("<i", code, at + 4), *unpack_from("<i", code, at + INSTRUCTION_SIZE + 4), *last)
        for at in range(first, end, _RULE * INSTRUCTION_SIZE)
    )
    return (nodes, code[end:]) if code[:end] == prefix(nodes, permits=permits) else ((), code)


def extended(code: bytes, nodes: Iterable[Node]) -> bytes:
    """Return `code` with a prefix that permits `nodes`, and what an earlier prefix of this project permits."""
    permitted, rest = split(code)
    refused, rest = _split(rest, permits=False)
    return _with_prefixes({*permitted, *nodes}, {*refused}.difference(nodes), rest)


def reduced(code: bytes, nodes: Iterable[Node]) -> bytes:
    """Return `code` with a prefix that refuses `nodes`, and without what permits them of an earlier prefix.

    Other nodes are permitted and refused as before. The program grows by what is refused now, not with each change.
    """
    permitted, rest = split(code)
    refused, rest = _split(rest, permits=False)
    return _with_prefixes({*permitted}.difference(nodes), {*refused, *nodes}, rest)


def _with_prefixes(permitted: Collection[Node], refused: Collection[Node], rest: bytes) -> bytes:
    before = prefix(sorted(permitted, key=_order)) if permitted else b""
    return before + (prefix(sorted(refused, key=_order), permits=False) if refused else b"") + rest


def _order(node: Node) -> tuple[int, Node]:
    return kind_of(node), node


def is_hidden(code: bytes) -> bool:
    """Tell whether the kernel withheld the instructions: none, zeros, or constants blinded by a hardened JIT."""
    if not any(code):
        return True
    return any(_BLINDING_REGISTER in (pair & 15, pair >> 4) for pair in set(code[1::INSTRUCTION_SIZE]))


def is_self_contained(code: bytes) -> bool:
    """Tell whether the instructions can be loaded again as they are: no maps, helpers or functions."""
    opcodes = code[::INSTRUCTION_SIZE]
    return not any(opcode in opcodes for opcode in (_LOAD_64, _CALL, _CALL_REGISTER))
