"""Device programs as bytes: what decides on cgroup v2 whether a container may open a device node. Pure.

A program gets `struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor}` in r1 and returns 1 to permit. The low
half of access_type is the type of the node, the high half what is wanted of it (include/uapi/linux/bpf.h). An
instruction is eight bytes: opcode, destination and source register, jump offset, immediate
(Documentation/bpf/standardization/instruction-set.rst).
"""

from __future__ import annotations

from _struct import iter_unpack, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.container import DeviceRule

    Node = tuple[int, int]  # major, minor of a character device

INSTRUCTION_SIZE: Final = 8
BLOCK: Final = 1  # BPF_DEVCG_DEV_BLOCK
CHAR: Final = 2  # BPF_DEVCG_DEV_CHAR
ACCESS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
READ_WRITE: Final = 6
_MKNOD_OR_TYPE: Final = 0x1FFFF  # of access_type: the type and, above it, the bit of mknod

_LOAD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_LOAD_64: Final = 0x18  # BPF_LD | BPF_IMM | BPF_DW, how programs refer to maps
_MOV: Final = 0xB7
_MOV_REGISTER: Final = 0xBF
_AND_32: Final = 0x54
_RSH_32: Final = 0x74
_JEQ: Final = 0x15
_JNE: Final = 0x55
_CALL: Final = 0x85
_CALL_REGISTER: Final = 0x8D
_EXIT: Final = 0x95
_BLINDING_REGISTER: Final = 11  # BPF_REG_AX, which only a hardened JIT uses and the verifier refuses

_PROLOGUE: Final = 5  # instructions of our prefix before its first rule
_RULE: Final = 4  # instructions of each of its rules
_LARGEST_NUMBER: Final = 0x7FFFFFFF  # of an immediate; far above any major (12 bits) or minor (20 bits)

# What runc (specconv.AllowedDevices) and crun (default_devices) permit every container, after its own rules:
# type, major, minor, access. Both have had and lacked tun (10:200) at times; their present releases have it.
DEFAULT_RULES: Final = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 136, None, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 10, 200, "rwm"),
)


def instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """Assemble one instruction."""
    return pack("<BBhi", opcode, source << 4 | destination, offset, immediate)


_RETURN_0: Final = instruction(_MOV, 0) + instruction(_EXIT)
_RETURN_1: Final = instruction(_MOV, 0, immediate=1) + instruction(_EXIT)


def prefix(nodes: Sequence[Node]) -> bytes:
    """Return instructions that permit reading and writing `nodes`, and fall through to what follows for all else."""
    rules = b"".join(
        instruction(_JNE, 2, offset=3, immediate=major) + instruction(_JNE, 3, offset=2, immediate=minor) + _RETURN_1
        for major, minor in nodes
    )
    return (
        instruction(_LOAD, 2, 1, 0)
        + instruction(_AND_32, 2, immediate=_MKNOD_OR_TYPE)
        + instruction(_JNE, 2, offset=2 + _RULE * len(nodes), immediate=CHAR)
        + instruction(_LOAD, 2, 1, 4)
        + instruction(_LOAD, 3, 1, 8)
        + rules
    )


def split(code: bytes) -> tuple[tuple[Node, ...], bytes]:
    """Return the nodes of our own prefix, `()` where there is none, and the program behind it."""
    if len(code) < _PROLOGUE * INSTRUCTION_SIZE:
        return (), code
    (offset,) = unpack_from("<h", code, 2 * INSTRUCTION_SIZE + 2)
    end = (3 + offset) * INSTRUCTION_SIZE
    first = _PROLOGUE * INSTRUCTION_SIZE
    if not first < end <= len(code) or (offset - 2) % _RULE:
        return (), code
    nodes = tuple(
        (unpack_from("<i", code, at + 4)[0], unpack_from("<i", code, at + INSTRUCTION_SIZE + 4)[0])
        for at in range(first, end, _RULE * INSTRUCTION_SIZE)
    )
    return (nodes, code[end:]) if code[:end] == prefix(nodes) else ((), code)


def extended(code: bytes, nodes: Iterable[Node]) -> bytes:
    """Return `code` with `nodes` permitted in front, in one prefix together with what an earlier one of ours permits."""
    earlier, rest = split(code)
    return prefix(sorted({*earlier, *nodes})) + rest


def is_hidden(code: bytes) -> bool:
    """Tell whether the kernel kept the instructions back: none, zeros, or constants blinded by a hardened JIT."""
    if not any(code):
        return True
    return any(_BLINDING_REGISTER in (pair & 15, pair >> 4) for pair in set(code[1::INSTRUCTION_SIZE]))


def is_self_contained(code: bytes) -> bool:
    """Tell whether the instructions can be loaded again as they are: no maps, no helpers, no functions of the kernel."""
    opcodes = code[::INSTRUCTION_SIZE]
    return not any(opcode in opcodes for opcode in (_LOAD_64, _CALL, _CALL_REGISTER))


def from_rules(rules: Iterable[DeviceRule], nodes: Iterable[Node]) -> bytes:
    """Return the program that the runtime makes of a bundle's `linux.resources.devices`, with `nodes` permitted.

    As the OCI specification has it, rules apply in their order: for each of read, write and mknod the last one that
    matches the device decides, and the runtimes' defaults come last of all. What no rule matches is refused.
    r3 holds what is wanted and not yet permitted, r2 the type, r4 and r5 the numbers.
    """
    ordered = [(rule.allow, rule.type, rule.major, rule.minor, rule.access) for rule in rules]
    ordered += [(True, *rule) for rule in DEFAULT_RULES]
    return (
        prefix(sorted(set(nodes)))
        + instruction(_LOAD, 2, 1, 0)
        + instruction(_MOV_REGISTER, 3, 2)
        + instruction(_AND_32, 2, immediate=0xFFFF)
        + instruction(_RSH_32, 3, immediate=16)
        + instruction(_LOAD, 4, 1, 4)
        + instruction(_LOAD, 5, 1, 8)
        + b"".join(_rule(*rule) for rule in reversed(ordered))
        + _RETURN_0
    )


def _rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> bytes:  # noqa: FBT001
    """Assemble one rule; b"" for one that no device can match."""
    wanted = [(2, {"a": None, "b": BLOCK}.get(kind, CHAR)), (4, major), (5, minor)]
    tests = [(register, value) for register, value in wanted if value is not None]
    if kind not in ("a", "b", "c", "u") or not all(0 <= value <= _LARGEST_NUMBER for _, value in tests):
        return b""
    bits = sum(bit for letter, bit in ACCESS.items() if letter in access)
    if allow:
        decision = instruction(_AND_32, 3, immediate=~bits) + instruction(_JNE, 3, offset=2) + _RETURN_1
    else:
        decision = (
            instruction(_MOV_REGISTER, 0, 3)
            + instruction(_AND_32, 0, immediate=bits)
            + instruction(_JEQ, 0, offset=2)
            + _RETURN_0
        )
    behind = len(decision) // INSTRUCTION_SIZE
    return (
        b"".join(
            instruction(_JNE, register, offset=behind + len(tests) - 1 - position, immediate=value)
            for position, (register, value) in enumerate(tests)
        )
        + decision
    )


# The subset of the instruction set that device programs use, by the high four bits of the opcode.
_ARITHMETIC: Final[dict[int, Callable[[int, int, int], int]]] = {
    0x00: lambda left, right, _bits: left + right,
    0x10: lambda left, right, _bits: left - right,
    0x40: lambda left, right, _bits: left | right,
    0x50: lambda left, right, _bits: left & right,
    0x60: lambda left, right, bits: left << (right % bits),
    0x70: lambda left, right, bits: left >> (right % bits),
    0xA0: lambda left, right, _bits: left ^ right,
    0xB0: lambda _left, right, _bits: right,
}
_COMPARISON: Final[dict[int, Callable[[int, int], bool]]] = {
    0x00: lambda _left, _right: True,
    0x10: lambda left, right: left == right,
    0x20: lambda left, right: left > right,
    0x30: lambda left, right: left >= right,
    0x40: lambda left, right: bool(left & right),
    0x50: lambda left, right: left != right,
    0xA0: lambda left, right: left < right,
    0xB0: lambda left, right: left <= right,
}
_LOAD_FORMATS: Final = {0x61: "<I", 0x69: "<H", 0x71: "<B"}
_UNKNOWN: Final = -1  # the contents of a register that hold no number: the context's address, or nothing yet


def permits(code: bytes, major: int, minor: int, access: int = READ_WRITE, kind: int = CHAR) -> bool | None:
    """Run the program for one node; None where it goes beyond what is understood here. Ends: jumps go forward only."""
    if len(code) % INSTRUCTION_SIZE or not any(code):
        return None
    context = pack("<III", access << 16 | kind, major, minor)
    program = list(iter_unpack("<BBhi", code))
    registers = [_UNKNOWN] * 16
    holders = {1}  # registers that hold the context's address
    at = 0
    while at < len(program):
        opcode, pair, offset, immediate = program[at]
        at += 1
        target, source = pair & 15, pair >> 4
        if opcode == _EXIT:
            return None if registers[0] == _UNKNOWN else registers[0] != 0
        if opcode in _LOAD_FORMATS:
            if source not in holders or not 0 <= offset <= len(context) - 4:
                return None
            (registers[target],) = unpack_from(_LOAD_FORMATS[opcode], context, offset)
            holders.discard(target)
        elif opcode == _MOV_REGISTER and source in holders:
            holders.add(target)
            registers[target] = _UNKNOWN
        elif opcode & 7 in (4, 7):
            result = _computed(opcode, registers[target], registers[source], offset, immediate)
            if result is None:
                return None
            registers[target] = result
            holders.discard(target)
        else:
            taken = _taken(opcode, registers[target], registers[source], immediate)
            if taken is None or offset < 0:
                return None
            at += offset if taken else 0
    return None


def _computed(opcode: int, left: int, right: int, offset: int, immediate: int) -> int | None:
    """Return the result of a BPF_ALU or BPF_ALU64 instruction."""
    operation = _ARITHMETIC.get(opcode & 0xF0)
    bits = 64 if opcode & 7 == 7 else 32
    mask = (1 << bits) - 1
    if not opcode & 8:
        right = immediate & mask
    if opcode & 0xF0 == 0xB0:
        left = 0
    if left == right == _UNKNOWN and opcode & 0xF8 == 0xA8:
        return None
    if operation is None or offset or _UNKNOWN in (left, right):
        return None
    return operation(left & mask, right & mask, bits) & mask


def _taken(opcode: int, left: int, right: int, immediate: int) -> bool | None:
    """Tell whether a BPF_JMP or BPF_JMP32 instruction jumps."""
    comparison = _COMPARISON.get(opcode & 0xF0) if opcode & 7 in (5, 6) and opcode != 0x06 else None
    if comparison is None:
        return None
    mask = 0xFFFFFFFFFFFFFFFF if opcode & 7 == 5 else 0xFFFFFFFF
    if not opcode & 8:
        right = immediate & mask
    if opcode == 0x05:
        return True
    if _UNKNOWN in (left, right):
        return None
    return comparison(left & mask, right & mask)
