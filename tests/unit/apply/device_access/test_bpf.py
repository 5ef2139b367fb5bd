"""Device programs: the bytes that are assembled, what they decide, and that our interpreter decides the same."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.apply.device_access import device_program as programs
from oci_gpu_hook.apply.device_access import runtime_program, v2
from oci_gpu_hook.apply.device_access.blinded_program import restored
from oci_gpu_hook.apply.device_access.bpf_interpreter import permits
from oci_gpu_hook.oci.container import DeviceRule
from tests.paths import DATA

PROGRAMS = DATA / "device_programs"
MKNOD, READ, WRITE = 1, 2, 4
BLOCK, CHAR = 1, 2


def recorded(name: str) -> bytes:
    """Return a program as the kernel gave it back, an instruction a line."""
    return bytes.fromhex((PROGRAMS / f"{name}.hex").read_text())


def rule(allow: bool, kind: str = "a", major: int | None = None, minor: int | None = None, access: str = "rwm"):
    return DeviceRule(allow=allow, type=kind, major=major, minor=minor, access=access)


NOTHING = rule(False)
REFUSE_ALL = bytes.fromhex("b700000000000000 9500000000000000")


def signed(value: int) -> int:
    """Return the 32-bit immediate that has these bits."""
    return value - ((value & 0x80000000) << 1)


class TestPrefix:
    def test_golden_bytes(self):
        assert programs.prefix([(195, 0), (511, 1)]) == bytes.fromhex(
            "6112000000000000"  # r2 = access_type
            "54020000ffff0100"  # r2 &= 0x1ffff: type and mknod
            "55020a0002000000"  # if r2 != char, no mknod: behind the prefix
            "6112040000000000"  # r2 = major
            "6113080000000000"  # r3 = minor
            "55020300c3000000"  # if r2 != 195: next rule
            "5503020000000000"  # if r3 != 0: next rule
            "b700000001000000"  # r0 = 1
            "9500000000000000"  # exit
            "55020300ff010000"
            "5503020001000000"
            "b700000001000000"
            "9500000000000000"
        )

    @pytest.mark.parametrize("access", range(1, 8))
    @pytest.mark.parametrize("kind", [BLOCK, CHAR])
    def test_it_permits_reading_and_writing_of_the_character_device_only(self, access, kind):
        code = programs.extended(REFUSE_ALL, [(195, 0)])
        assert permits(code, 195, 0, access, kind) is (kind == CHAR and not access & MKNOD)

    @pytest.mark.parametrize("access", range(1, 8))
    @pytest.mark.parametrize("kind", [BLOCK, CHAR])
    def test_of_a_block_device_likewise(self, access, kind):
        code = programs.extended(REFUSE_ALL, [(7, 1, "b"), (195, 0)])
        assert permits(code, 7, 1, access, kind) is (kind == BLOCK and not access & MKNOD)
        assert permits(code, 195, 0, access, kind) is (kind == CHAR and not access & MKNOD)
        reduced = programs.reduced(code, [(7, 1, "b")])
        assert permits(reduced, 7, 1, kind=BLOCK) is False
        assert programs.split(reduced)[0] == ((195, 0),)

    @pytest.mark.parametrize("node", [(195, 1), (194, 0), (0, 0), (0, 195), (1 << 12, 0), (195, 1 << 20)])
    def test_it_permits_no_other_node(self, node):
        assert permits(programs.extended(REFUSE_ALL, [(195, 0)]), *node) is False

    def test_a_second_grant_joins_the_first_in_one_prefix(self):
        once = programs.extended(REFUSE_ALL, [(195, 255), (195, 0)])
        again = programs.extended(once, [(195, 0), (511, 1)])
        assert again == programs.prefix([(195, 0), (195, 255), (511, 1)]) + REFUSE_ALL
        assert programs.extended(again, [(511, 1)]) == again

    def test_split_finds_what_extended_put_in_front(self):
        runc = recorded("runc-1.1.5")
        assert programs.split(runc) == ((), runc)
        assert programs.split(programs.extended(runc, [(195, 0)])) == (((195, 0),), runc)

    @pytest.mark.parametrize(
        "change",
        [
            lambda code: code[:16] + b"\x55\x02\xff\x7f" + code[20:],  # the jump leads out of the program
            lambda code: code[:16] + b"\x55\x02\xfe\xff" + code[20:],  # … backwards
            lambda code: code[:16] + b"\x55\x02\x07\x00" + code[20:],  # … into the middle of a rule
            lambda code: code[:72] + b"\xb7\x00\x00\x00\x00\x00\x00\x00" + code[80:],  # a rule refuses
            lambda code: code[:-24],
            lambda _code: b"",
            lambda code: code[:20],
        ],
    )
    def test_what_only_looks_like_our_prefix_is_left_alone(self, change):
        code = change(programs.prefix([(195, 0), (195, 1)]) + REFUSE_ALL)
        assert programs.split(code) == ((), code)

    @given(
        st.lists(
            st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
            | st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1), st.just("b")),
            max_size=20,
        ),
        st.binary(),
    )
    def test_split_undoes_extended(self, nodes, rest):
        if programs.split(rest) == ((), rest):
            found, left = programs.split(programs.extended(rest, nodes))
            assert ({*found}, len(found), left) == ({*nodes}, len({*nodes}), rest)

    def test_what_is_refused_is_refused_alone(self):
        permissive = programs.extended(REFUSE_ALL, [(195, 0), (195, 1)])
        reduced = programs.reduced(permissive, [(195, 0)])
        assert permits(reduced, 195, 0) is False
        assert permits(reduced, 195, 1) is True
        assert permits(programs.extended(reduced, [(195, 0)]), 195, 0) is True

    def test_a_refusal_goes_before_what_the_runtime_permits(self):
        runtimes = programs.prefix([(195, 0), (1, 3)]) + REFUSE_ALL  # as if config.json had listed them
        hidden = programs.instruction(0xB7, 9) + runtimes  # which is no prefix of this project's
        reduced = programs.reduced(hidden, [(195, 0)])
        assert permits(reduced, 195, 0) is False
        assert permits(reduced, 1, 3) is True

    def test_a_program_does_not_grow_with_each_change(self):
        code = REFUSE_ALL
        sizes = set()
        for _ in range(10):
            code = programs.extended(code, [(195, 0)])
            code = programs.reduced(code, [(195, 0)])
            sizes.add(len(code))
        assert len(sizes) == 1


class TestRuntimesPrograms:
    @pytest.mark.parametrize("name", ["runc-1.1.5", "runc-1.1.5-blinded"])
    @pytest.mark.parametrize(
        ("node", "answer"),
        [
            ((1, 3), True),
            ((5, 0), True),
            ((136, 77), True),
            ((10, 200), True),
            ((10, 229), True),  # the bundle's own rule
            ((10, 228), False),
            ((195, 0), False),
        ],
    )
    def test_a_program_of_runc_decides_as_the_bundle_says(self, name, node, answer):
        assert permits(recorded(name), *node) is answer

    def test_a_program_of_runc_permits_mknod_of_everything(self):
        code = recorded("runc-1.1.5")
        assert [permits(code, 195, 0, access) for access in (MKNOD, MKNOD | READ)] == [True, False]

    def test_a_privileged_container_may_open_everything(self):
        assert permits(recorded("runc-1.1.5-privileged"), 195, 0, 7, BLOCK) is True

    def test_systemds_way_with_a_common_end_is_understood(self):
        """src/core/bpf-devices.c: rules jump to the end, where r0 is chosen."""
        i = programs.instruction
        code = (
            i(0x61, 2, 1, 0) + i(0x54, 2, immediate=0xFFFF) + i(0x61, 3, 1, 0) + i(0x74, 3, immediate=16)
            + i(0x61, 4, 1, 4) + i(0x61, 5, 1, 8)
            + i(0xBC, 1, 3) + i(0x54, 1, immediate=READ | WRITE) + i(0x5D, 1, 3, 4)
            + i(0x55, 2, offset=3, immediate=CHAR) + i(0x55, 4, offset=2, immediate=195) + i(0x55, 5, offset=1)
            + i(0x05, offset=2)
            + i(0xB7, 0) + i(0x05, offset=1)
            + i(0xB7, 0, immediate=1)
            + i(0x95)
        )  # fmt: skip
        assert [permits(code, 195, minor) for minor in (0, 1)] == [True, False]
        assert permits(code, 195, 0, MKNOD) is False

    def test_what_the_kernel_kept_back_is_known_by_its_look(self):
        assert programs.is_hidden(b"")
        assert programs.is_hidden(bytes(80))
        assert programs.is_hidden(recorded("runc-1.1.5-blinded"))
        assert not programs.is_hidden(recorded("runc-1.1.5"))

    @pytest.mark.parametrize("opcode", [0x85, 0x8D, 0x18])
    def test_programs_with_helpers_and_maps_are_not_self_contained(self, opcode):
        runc = recorded("runc-1.1.5")
        assert programs.is_self_contained(runc)
        assert not programs.is_self_contained(programs.instruction(opcode) + runc)
        assert permits(programs.instruction(opcode) + runc, 195, 0) is None


class TestInterpreter:
    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("no instruction", b""),
            ("zeros", bytes(80)),
            ("half an instruction", REFUSE_ALL + b"\xb7"),
            ("no exit", REFUSE_ALL[:8]),
            ("exit with nothing in r0", REFUSE_ALL[8:]),
            ("exit with the context's address", programs.instruction(0xBF, 0, 1) + REFUSE_ALL[8:]),
            ("a jump out of the program", programs.instruction(0x05, offset=9) + REFUSE_ALL),
            ("a loop", programs.instruction(0x05, offset=-1) + REFUSE_ALL),
            ("a load from beyond the context", programs.instruction(0x61, 0, 1, 12) + REFUSE_ALL[8:]),
            ("a load from before the context", programs.instruction(0x61, 0, 1, -4) + REFUSE_ALL[8:]),
            ("a load from the stack", programs.instruction(0x61, 0, 10, -4) + REFUSE_ALL[8:]),
            ("arithmetic on the context's address", programs.instruction(0x07, 1, immediate=4) + REFUSE_ALL),
            ("a test of nothing", programs.instruction(0x15, 6, offset=0) + REFUSE_ALL),
            (
                "a shift by all bits",
                programs.instruction(0xB7, 0) + programs.instruction(0x67, 0, immediate=64) + REFUSE_ALL,
            ),
            ("a store", programs.instruction(0x7B, 10, 1, -8) + REFUSE_ALL),
        ],
    )
    def test_what_it_does_not_understand_it_says(self, name, code):
        assert permits(code, 195, 0) is None

    @pytest.mark.parametrize(
        ("opcode", "left", "right", "result"),
        [
            (0x07, 5, -1, 4),  # add, 64 bits
            (0x04, 5, -6, 0xFFFFFFFF),  # add, 32 bits: the upper half is cleared
            (0x17, 5, 6, 0xFFFFFFFFFFFFFFFF),
            (0x47, 4, 3, 7),
            (0x57, -1, 0x1FFFF, 0x1FFFF),
            (0x67, 1, 40, 1 << 40),
            (0x64, 3, 31, 1 << 31),
            (0x77, -1, 60, 15),
            (0x74, 0x50002, 16, 5),
            (0xA7, 5, -1, 0xFFFFFFFFFFFFFFFA),
            (0xB7, 0, -1, 0xFFFFFFFFFFFFFFFF),
            (0xB4, 0, -1, 0xFFFFFFFF),
        ],
    )
    def test_arithmetic(self, opcode, left, right, result):
        i = programs.instruction
        expected = (
            i(0xB4, 2, immediate=signed(result >> 32))
            + i(0x67, 2, immediate=32)
            + i(0xB4, 3, immediate=signed(result & 0xFFFFFFFF))
            + i(0x4F, 2, 3)
        )
        computed = i(0xB7, 0, immediate=left) + i(opcode, 0, immediate=right)
        if_equal = i(0x5D, 0, 2, 2) + i(0xB7, 0, immediate=1) + i(0x95)
        assert permits(expected + computed + if_equal + REFUSE_ALL, 195, 0) is True

    @pytest.mark.parametrize(
        ("opcode", "left", "right", "taken"),
        [
            (0x15, 5, 5, True), (0x15, 5, 6, False), (0x55, 5, 6, True), (0x25, 6, 5, True), (0x25, 5, 5, False),
            (0x35, 5, 5, True), (0xA5, 5, 6, True), (0xA5, 6, 6, False), (0xB5, 6, 6, True), (0x45, 6, 2, True),
            (0x45, 4, 2, False), (0x25, -1, 5, True), (0x16, -1, -1, True), (0x56, 5, 5, False),
        ],
    )  # fmt: skip
    def test_jumps(self, opcode, left, right, taken):
        i = programs.instruction
        code = i(0xB7, 2, immediate=left) + i(opcode, 2, offset=2, immediate=right) + REFUSE_ALL
        assert permits(code + i(0xB7, 0, immediate=1) + i(0x95), 195, 0) is taken

    def test_signed_comparisons_are_not_understood(self):
        code = programs.instruction(0xB7, 2) + programs.instruction(0x65, 2) + REFUSE_ALL
        assert permits(code, 195, 0) is None

    @given(st.binary(max_size=400), st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
    def test_no_bytes_make_it_fail(self, code, major, minor):
        assert permits(code, major, minor) in (True, False, None)

    @given(st.binary(min_size=8, max_size=8), st.integers(0, 60))
    def test_no_instruction_in_a_real_program_makes_it_fail(self, instruction, position):
        runc = recorded("runc-1.1.5")
        code = runc[: position * 8] + instruction + runc[position * 8 + 8 :]
        assert permits(code, 195, 0) in (True, False, None)


class TestBlindedPrograms:
    """What net.core.bpf_jit_harden=2 does to constants, undone."""

    def test_a_recorded_program_is_restored_to_the_byte(self):
        plain = recorded("runc-1.1.5")
        found = restored(recorded("runc-1.1.5-blinded"))
        # A register that is set to 0 comes back so in 64 bits, whichever it was.
        assert found == plain.replace(bytes.fromhex("b400000000000000"), bytes.fromhex("b700000000000000"))

    @given(st.integers(1, 7), st.sampled_from([0, 1, 5, 10, 195]), st.sampled_from([0, 3, 200, 229]))
    def test_it_decides_as_before(self, access, major, minor):
        found = restored(recorded("runc-1.1.5-blinded"))
        assert found
        for kind in (BLOCK, CHAR):
            assert permits(found, major, minor, access, kind) is permits(
                recorded("runc-1.1.5"), major, minor, access, kind
            )

    def test_a_program_that_is_not_blinded_stays(self):
        assert restored(recorded("runc-1.1.5")) == recorded("runc-1.1.5")

    @pytest.mark.parametrize(
        "code",
        [
            "b70b000001000000",  # r11 is set, and nothing follows
            "b70b000001000000 a70b000002000000",
            "b70b000001000000 a40b000002000000 bfb0000000000000",  # the two are not of one size
            "b70b000001000000 a70b000002000000 bfa0000000000000",  # the last one takes another register
            "b70b000001000000 a70b000002000000 bfbb000000000000",
            "bfb0000000000000",  # r11 from nowhere
            "0500010000000000 b70b000001000000 a70b000002000000 bfb0000000000000",  # a jump into the midst of three
            "0500090000000000",  # out of the program
            "0600000001000000",
            "b7",
        ],
    )
    def test_what_cannot_be_told_is_not_guessed(self, code):
        assert restored(bytes.fromhex(code)) is None

    @given(st.binary(min_size=8, max_size=8), st.integers(0, 120))
    def test_no_instruction_makes_it_fail(self, instruction, position):
        code = recorded("runc-1.1.5-blinded")
        found = restored(code[: position * 8] + instruction + code[position * 8 + 8 :])
        assert found is None or 11 not in {half for pair in found[1::8] for half in (pair & 15, pair >> 4)}


FUSE = rule(True, "c", 10, 229)
numbers = st.one_of(st.none(), st.sampled_from([0, 1, 3, 5, 195]))
device_rules = st.builds(
    rule,
    st.booleans(),
    st.sampled_from("abc"),
    numbers,
    numbers,
    st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
)


class TestRecognisedPrograms:
    """What runc and crun make of rules; tests/runtime compares it with what the runtimes here do."""

    def test_a_recorded_program_of_runc_is_among_them(self):
        assert recorded("runc-1.1.5") in runtime_program.candidates([NOTHING, FUSE])
        assert recorded("runc-1.1.5-privileged") in runtime_program.candidates([rule(True)])

    def test_a_recorded_program_of_crun_is_among_them(self):
        assert recorded("crun-1.21") in runtime_program.candidates([NOTHING])

    def test_other_rules_make_other_programs(self):
        assert recorded("runc-1.1.5") not in runtime_program.candidates([NOTHING])

    @pytest.mark.parametrize(
        ("position", "console", "tun"), [(0, False, True), (1, False, False), (2, True, True), (3, True, False)]
    )
    def test_each_has_the_defaults_of_its_runtime(self, position, console, tun):
        code = list(runtime_program.candidates([NOTHING]))[position]
        assert [permits(code, *node) for node in ((1, 3), (136, 5), (195, 0))] == [True, True, False]
        assert [permits(code, *node) for node in ((5, 1), (10, 200))] == [console, tun]
        assert permits(code, 195, 0, MKNOD) is True

    def test_runc_refuses_a_hole_in_a_wildcard(self):
        rules = [NOTHING, rule(True, "c", 195, None), rule(False, "c", 195, 0, "w")]
        assert len(list(runtime_program.candidates(rules))) == 4  # all of crun

    def test_numbers_that_no_device_has_make_no_program(self):
        assert list(runtime_program.candidates([rule(True, "c", 1 << 40)])) == []

    @given(st.lists(device_rules, max_size=6))
    def test_each_is_a_program_that_is_understood(self, rules):
        for code in runtime_program.candidates(rules):
            assert programs.is_self_contained(code)
            assert not programs.is_hidden(code)
            assert permits(code, 195, 0) in (True, False)


def test_a_program_of_thousands_of_rules_is_not_run_for_each_of_as_many_nodes():
    """That took longer than a container's file systems may take to answer, and failed its start."""
    nodes = [(241, minor) for minor in range(3000)]
    rules = [NOTHING, *(rule(True, "c", *numbers, access="rw") for numbers in nodes)]
    code = next(iter(runtime_program.candidates(rules)))
    began = time.process_time()
    made = v2._permitting(code, nodes)
    assert v2._permitting(made, nodes) == made
    assert time.process_time() - began < 2
    assert programs.split(made) == (tuple(nodes), code)
    few = nodes[:10]
    assert v2._permitting(code, few) == code, "which permits them"
