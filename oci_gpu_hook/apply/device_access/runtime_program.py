"""Builds the device programs that runc and crun make from a bundle's rules, instruction by instruction. Pure.

The kernel may withhold a program's instructions, but not their hash, its tag. A program with the tag of one of these is
known for certain. runc: libcontainer/cgroups/devices, devicefilter.go and devices_emulator.go of 1.0.0 and later.
crun: src/libcrun/ebpf.c and cgroup-resources.c of 0.11 and later.
"""

from __future__ import annotations

from oci_gpu_hook.apply.device_access.device_program import ACCESS, BLOCK, CHAR, instruction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final, TypeAlias

    from oci_gpu_hook.oci.container import DeviceRule

    # allow or not, type, major and minor (-1 for all), bits of access
    Rule: TypeAlias = tuple[bool, str, int, int, int]

_LOAD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_AND: Final = 0x54  # of 32 bits, like the next
_SHIFT_RIGHT: Final = 0x74
_SET: Final = {"runc": 0xB4, "crun": 0xB7}  # sets a register to a constant: of 32 bits, of 64 bits
_COPY: Final = 0xBC
_UNLESS: Final = 0x55  # BPF_JNE with a constant
_UNLESS_REGISTER: Final = 0x5D
_EXIT: Final = 0x95
_ANY: Final = -1
_ALL: Final = 7
_LARGEST_NUMBER: Final = 0x7FFFFFFF

# What every container may do, in the order of specconv.AllowedDevices and default_devices.
_BEFORE_CONSOLE: Final = (
    (True, "c", _ANY, _ANY, ACCESS["m"]),
    (True, "b", _ANY, _ANY, ACCESS["m"]),
    *((True, "c", major, minor, _ALL) for major, minor in ((1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9))),
)
_CONSOLE: Final = ((True, "c", 5, 1, _ALL),)
_TERMINALS: Final = ((True, "c", 136, _ANY, _ALL), (True, "c", 5, 2, _ALL))
_TUN: Final = ((True, "c", 10, 200, _ALL),)
RUNC: Final = _BEFORE_CONSOLE + _TERMINALS + _TUN
RUNC_WITHOUT_TUN: Final = _BEFORE_CONSOLE + _TERMINALS  # 1.2.0 to 1.2.3
CRUN: Final = _BEFORE_CONSOLE + _CONSOLE + _TERMINALS + _TUN
CRUN_WITHOUT_TUN: Final = _BEFORE_CONSOLE + _CONSOLE + _TERMINALS  # 1.5 to 1.19
_END_OF_LIST: Final = ((True, "c", 0, 0, 0),)  # 1.18 and later make a block of it, too

_PROLOGUE: Final = (
    instruction(_LOAD, 2, 1, 0)
    + instruction(_AND, 2, immediate=0xFFFF)
    + instruction(_LOAD, 3, 1, 0)
    + instruction(_SHIFT_RIGHT, 3, immediate=16)
    + instruction(_LOAD, 4, 1, 4)
    + instruction(_LOAD, 5, 1, 8)
)


def candidates(rules: Sequence[DeviceRule]) -> Iterator[bytes]:
    """Yield the runtimes' programs for a bundle's `linux.resources.devices`, with the defaults of each version."""
    plain = [_plain(rule) for rule in rules]
    if any(max(rule[2:4]) > _LARGEST_NUMBER for rule in plain):
        return
    for defaults in (RUNC, RUNC_WITHOUT_TUN):
        made = of_runc([*plain, *defaults])
        if made is not None:
            yield made
    for defaults in (CRUN, CRUN_WITHOUT_TUN, CRUN + _END_OF_LIST, CRUN_WITHOUT_TUN + _END_OF_LIST):
        yield of_crun([*plain, *defaults])


def of_runc(rules: Sequence[Rule]) -> bytes | None:
    """Return runc's program, None if runc would refuse the rules.

    runc emulates cgroup v1 with the rules, and writes a block for each remaining exception, sorted.
    """
    allow_all = False
    exceptions: dict[tuple[int, int, str], int] = {}
    for allow, kind, major, minor, access in rules:
        if kind == "a":
            allow_all = allow
            exceptions = {}
            continue
        if kind not in ("b", "c"):
            return None
        key = (major, minor, kind)
        if allow != allow_all:
            exceptions[key] = exceptions.get(key, 0) | access
            continue
        for wider in {(_ANY, minor, kind), (major, _ANY, kind), (_ANY, _ANY, kind)} - {key}:
            if exceptions.get(wider, 0) & access:
                return None
        exceptions[key] = exceptions.get(key, 0) & ~access
        if not exceptions[key]:
            del exceptions[key]
    blocks = [
        _block((not allow_all, kind, major, minor, access), _SET["runc"])
        for (major, minor, kind), access in sorted(exceptions.items())
    ]
    return _PROLOGUE + b"".join(blocks) + _answer(_SET["runc"], allow=allow_all)


def of_crun(rules: Sequence[Rule]) -> bytes:
    """Return crun's program: a block for each rule, the last first, up to one that matches everything."""
    code = _PROLOGUE
    for rule in reversed(rules):
        code += _block(rule, _SET["crun"])
        if rule[1:] == ("a", _ANY, _ANY, _ALL):
            return code
    return code + _answer(_SET["crun"], allow=False)


def _plain(rule: DeviceRule) -> Rule:
    access = sum(bit for letter, bit in ACCESS.items() if letter in rule.access)
    major, minor = (_ANY if number is None or number < 0 else number for number in (rule.major, rule.minor))
    return rule.allow, rule.type[:1], major, minor, access


def _block(rule: Rule, setting: int) -> bytes:
    """Return the instructions for a rule: r2 is the type, r3 the requested access, r4 and r5 the numbers."""
    allow, kind, major, minor, access = rule
    tests = []  # opcode, registers, constant
    if kind != "a":
        tests.append((_UNLESS, 2, 0, BLOCK if kind == "b" else CHAR))
    if access != _ALL:
        tests += [(_COPY, 1, 3, 0), (_AND, 1, 0, access), (_UNLESS_REGISTER, 1, 3, 0)]
    tests += [(_UNLESS, register, 0, number) for register, number in ((4, major), (5, minor)) if number != _ANY]
    length = len(tests) + 1
    code = b""
    for position, (opcode, register, source, constant) in enumerate(tests):
        offset = length - position if opcode in (_UNLESS, _UNLESS_REGISTER) else 0
        code += instruction(opcode, register, source, offset, constant)
    return code + _answer(setting, allow=allow)


def _answer(setting: int, *, allow: bool) -> bytes:
    return instruction(setting, 0, immediate=int(allow)) + instruction(_EXIT)
