"""Programs on a cgroup of v2, however they are attached, whoever else changes them: all are extended, none is lost."""

from __future__ import annotations

import os
import subprocess

import pytest

from oci_gpu_hook.apply.device_access import bpf, cgroup, device_program
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.oci.container import DeviceRule
from tests.runtime.device_cgroups import GRANTED, NOTHING, attach, code_of, inside, like_runc, process_in


@pytest.fixture
def unified(runc_v2):
    """The machine's host of pure cgroup v2."""
    return runc_v2.host


@pytest.mark.parametrize("flags", [0, bpf.ALLOW_OVERRIDE, bpf.ALLOW_MULTI], ids=["single", "override", "multi"])
def test_each_way_in_which_a_program_may_be_attached(unified, flags):
    def scenario():
        with process_in(f"attached-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), flags)
            found = cgroup.find(pid)
            before = bpf.attached(found.levels[-1])
            grant = cgroup.allow(found, GRANTED, NOTHING)
            assert [cgroup.allows(found, *node) for node in ((195, 0), (195, 1))] == [True, False]
            assert bpf.attached(found.levels[-1])[0] == flags
            grant.undo()
            assert bpf.attached(found.levels[-1]) == before

    inside(unified, scenario)


def test_a_scope_and_the_cgroup_below_it_are_both_the_containers(unified):
    """Podman with systemd: systemd's program on the scope, crun's on `container` below it."""

    def scenario():
        with process_in(f"libpod-{os.getpid()}.scope", "container") as (pid, made):
            for directory in made:
                attach(directory, like_runc(), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            assert found.own_path == f"/libpod-{os.getpid()}.scope"
            grant = cgroup.allow(found, GRANTED, NOTHING)
            assert cgroup.allows(found, 195, 0) is True
            grant.undo()
            assert cgroup.allows(found, 195, 0) is False

    inside(unified, scenario)


def test_two_programs_on_one_cgroup_are_both_extended(unified):
    """After a reload of systemd a cgroup may hold its program and the runtime's."""

    def scenario():
        with process_in(f"two-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), bpf.ALLOW_MULTI)
            fuse = DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm")
            attach(made[-1], like_runc(fuse), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            assert len(cgroup.allow(found, GRANTED, NOTHING).changes) == 2
            assert [cgroup.allows(found, *node) for node in ((195, 0), (195, 1), (10, 229))] == [True, False, False]

    inside(unified, scenario)


def test_no_program_in_force_means_nothing_to_do(unified):
    def scenario():
        with process_in(f"free-{os.getpid()}") as (pid, _):
            found = cgroup.find(pid)
            assert cgroup.allows(found, 195, 0) is True
            assert cgroup.allow(found, GRANTED, NOTHING).changes == []
            assert bpf.attached(found.levels[-1])[1] == ()

    inside(unified, scenario)


def test_a_program_replaced_meanwhile_is_read_again(unified, monkeypatch):
    def scenario():
        with process_in(f"raced-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            read = bpf.instructions
            rivals = iter(range(3))

            def replaced_while_read(program):
                code = read(program)
                if next(rivals, None) is not None:
                    rival = bpf.load(device_program.extended(like_runc(), [(511, 9)]))
                    bpf.replace(found.levels[-1], rival, program, bpf.ALLOW_MULTI)
                return code

            monkeypatch.setattr(bpf, "instructions", replaced_while_read)
            assert len(cgroup.allow(found, GRANTED, NOTHING).changes) == 1
            monkeypatch.undo()
            (code,) = code_of(found)
            assert device_program.split(code)[0] == tuple(sorted({*GRANTED, (511, 9)}))

    inside(unified, scenario)


def test_a_program_that_is_replaced_again_and_again_is_an_error(unified, monkeypatch):
    def scenario():
        with process_in(f"raced-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)

            def never_there(*_arguments):
                raise FileNotFoundError

            monkeypatch.setattr(bpf, "replace", never_there)
            before = set(os.listdir("/proc/self/fd"))
            with pytest.raises(ApplyError, match="replaced 8 times"):
                cgroup.allow(found, GRANTED, NOTHING)
            assert set(os.listdir("/proc/self/fd")) == before

    inside(unified, scenario)


def test_an_undone_grant_does_not_undo_what_others_did_since(unified):
    def scenario():
        with process_in(f"undone-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            grant = cgroup.allow(found, GRANTED, NOTHING)
            rival = bpf.load(device_program.extended(like_runc(), [(511, 9)]))
            (ours,) = bpf.attached(found.levels[-1])[1]
            bpf.replace(found.levels[-1], rival, bpf.open_program(ours), bpf.ALLOW_MULTI)
            grant.undo()
            assert [cgroup.allows(found, *node) for node in ((511, 9), (195, 0))] == [True, False]

    inside(unified, scenario)


def test_a_foreign_program_is_not_thrown_away(unified):
    """A policy of someone else's, with a helper (get_current_uid_gid, 15): it cannot be read back whole."""

    def scenario():
        with process_in(f"foreign-{os.getpid()}") as (pid, made):
            call = device_program.instruction(0x85, immediate=15)
            give_0 = device_program.instruction(0xB7) + device_program.instruction(0x95)
            attach(made[-1], call + give_0, bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            before = bpf.attached(found.levels[-1])
            with pytest.raises(ApplyError, match="not a container runtime's"):
                cgroup.allow(found, GRANTED, NOTHING)
            assert bpf.attached(found.levels[-1]) == before

    inside(unified, scenario)


def test_a_refused_program_brings_the_verifiers_words(unified):
    def scenario():
        with pytest.raises(ApplyError, match="R0 !read_ok"):
            bpf.load(device_program.instruction(0x95))

    inside(unified, scenario)


def test_a_dead_process_is_a_clear_error(unified):
    def scenario():
        child = subprocess.Popen(["true"])
        child.wait()
        with pytest.raises(ApplyError, match=f"process {child.pid}"):
            cgroup.find(child.pid)

    inside(unified, scenario)
