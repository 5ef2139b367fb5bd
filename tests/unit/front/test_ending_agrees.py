"""The front's poststop does what Python's does, and no file that it reads makes it read or write where it must not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.allocation import release
from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal import changes as made
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import key
from oci_gpu_hook.base import limits
from tests import first_pid_namespace
from tests.unit.front.conftest import SOURCES
from tests.unit.front.ended import Host

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's containers end without Python"),
    first_pid_namespace.needed,
]
several = settings(
    max_examples=int(os.environ.get("OCI_GPU_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# A main with libc's, for the sanitizers; the start of the executable has none.
MAIN = """
#include "front.h"
int main(int argc, char **argv, char **envp) {
    const char role[] = "hook", interpreter[] = "/bin/false";
    environment = envp;
    for (unsigned i = 0; i < sizeof role; i++)
        block.role[i] = role[i];
    for (unsigned i = 0; i < sizeof interpreter; i++)
        block.interpreter[i] = interpreter[i];
    hook(argc, argv);
}
"""

names = st.sampled_from(["a", "b", "c"])
places = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/usr/lib/" + "/".join(parts))
kinds = st.sampled_from([made.DIRECTORY, made.FILE, made.LINK, made.NODE])
changes = st.lists(st.tuples(kinds, places, names, st.booleans()), max_size=12).map(
    lambda found: tuple(
        made.change(
            kind,
            path,
            target=target if kind == made.LINK else "",
            device=os.makedev(1, 3) if kind == made.NODE else 0,
            passing=passing,
        )
        for kind, path, target, passing in found
    )
)
tampering = st.lists(st.tuples(places, st.sampled_from(["gone", "full", "link", "directory"])), max_size=4)


def make(host, found):
    """Make of the changes what can be made."""
    host.make_rootfs()
    host.changes = ()
    entry = host.start().replace(changes=found)
    journal.write(host.config, entry)
    for kind, path, target, device, _was, _passing in found:
        place = host.rootfs / path[1:]
        try:
            if kind == made.DIRECTORY:
                place.mkdir()
            elif kind == made.FILE:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL))
            elif kind == made.LINK:
                place.symlink_to(target)
            else:
                os.mknod(place, 0o20644, device)
        except OSError:
            continue


def tamper(host, found):
    for path, how in found:
        place = host.rootfs / path[1:]
        try:
            if how == "full":
                place.write_text("x")
                continue
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
            if how == "link":
                place.symlink_to("/usr")
            elif how == "directory":
                place.mkdir()
        except OSError:
            continue


@several
@given(found=changes, tampered=tampering)
def test_the_front_leaves_what_python_leaves(lay, witness, tmp_path, found, tampered):
    hosts = []
    for name in ("one", "other"):
        directory = tmp_path / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        interpreter, script, _ = witness
        hosts.append(Host(directory, lay("hook", interpreter, script)))
    for host in hosts:
        make(host, found)
        tamper(host, tampered)
    by_front, by_python = hosts
    for host in [by_python, by_front] if by_front.stop() else [by_python]:
        cleanup.detach(host.id, str(host.bundle), host.config)
        release.release(host.id, host.config)
    assert by_front.left() == by_python.left()
    assert by_front.entries() == by_python.entries() == []
    assert by_front.leases() == by_python.leases() == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize(
    ("call", "when"),
    [(call, when) for call in ("openat2", "unlinkat") for when in (1, 2, 3, 4, 5)]
    + [(call, 1) for call in ("fcntl", "flock", "fstatfs", "fchmod", "renameat", "write")],
)
def test_one_that_is_killed_at_work_leaves_it_to_python(lay, witness, tmp_path, call, when):
    interpreter, script, _ = witness
    host = Host(tmp_path, lay("hook", interpreter, script))
    entry = host.start()
    (host.rootfs / "usr/lib/gpu/kept").touch()
    host.hold(host.lease(entry), host.lease(entry, container="other"))
    trace = ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}"]
    state = json.dumps({"id": host.id, "bundle": str(host.bundle), "status": "stopped"}).encode()
    done = subprocess.run([*trace, host.front, "--config", str(host.toml), "poststop"], input=state, check=False)
    assert done.returncode in (0, -9, 137), done
    assert done.returncode or when > 1
    cleanup.detach(host.id, str(host.bundle), host.config)
    release.release(host.id, host.config)
    assert host.left() == ["usr/lib/gpu", "usr/lib/gpu/kept"]
    assert host.entries() == []
    assert [lease["container"] for lease in host.leases()] == ["other"]


@pytest.fixture(scope="session")
def sanitized(template, tmp_path_factory):
    """Build the front with the sanitizers; where it would start Python it exits 1."""
    directory = tmp_path_factory.mktemp("sanitized")
    (directory / "main.c").write_text(MAIN)
    sources = [str(path) for path in sorted(Path(SOURCES).glob("*.c")) if path.name != "start.c"]
    command = ["cc", "-std=c11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCES}"]
    done = subprocess.run(
        [*command, "-o", str(directory / "front"), str(directory / "main.c"), *sources],
        capture_output=True,
        check=False,
    )
    if done.returncode and b"cannot find" in done.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert done.returncode == 0, done.stderr.decode()
    return str(directory / "front")


def damaged(data, cuts):
    """Return data with pieces exchanged: (place, bytes to remove, bytes to insert)."""
    for place, gone, new in cuts:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


pieces = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [b"\0", b"end\0", b"d/", b"l/usr", b"9" * 30, b"x" * 5000, b"[", b"]", b"{", b"}", b'"', b", ", b"\\"]
    ),
)
cuts = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 40), pieces), max_size=4)


def test_a_table_without_spaces_stays_within_the_buffer(sanitized, tmp_path):
    """What is written has spaces between leases, so it may be larger than what was read; Python must read it back."""
    host = Host(tmp_path, sanitized)
    entry = host.start()
    small = {"container": "o", "bootId": "", "pid": 0, "startTime": 0, "pidNamespace": 0, "starting": False}
    count = limits.LEASES // len(json.dumps(small, separators=(",", ":")) + ",") - 10
    table = {"version": 1, "nextTicket": 7, "leases": [host.lease(entry), *[small] * count], "queue": []}
    path = tmp_path / "state/leases.json"
    path.write_text(json.dumps(table, separators=(",", ":")))
    before = path.read_bytes()
    done = subprocess.run(
        [sanitized, "--config", str(host.toml), "poststop"],
        input=json.dumps({"id": host.id, "pid": 0, "status": "stopped", "bundle": str(host.bundle)}).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert path.read_bytes() == before


@several
@given(ending=cuts, leases=cuts, toml=cuts, state=cuts)
def test_damaged_files_are_read_within_their_bounds(sanitized, tmp_path, ending, leases, toml, state):
    directory = tmp_path / "host"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    host = Host(directory, sanitized)
    entry = host.start()
    outside = directory / "outside"
    outside.touch()
    (host.rootfs / "usr/lib/outside").symlink_to(outside)
    for path, found in (
        (host.journal / f"{key(entry)}.end", ending),
        (directory / "state/leases.json", leases),
        (host.toml, toml),
    ):
        path.write_bytes(damaged(path.read_bytes(), found))
    given_state = b'{"ociVersion": "1.0.2", "id": "c", "pid": 0, "status": "stopped", "bundle": "%s"}'
    done = subprocess.run(
        [sanitized, "--config", str(host.toml), "poststop"],
        input=damaged(given_state % os.fsencode(host.bundle), state),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    assert done.stderr == b"", done.stderr.decode()
    assert outside.exists()
