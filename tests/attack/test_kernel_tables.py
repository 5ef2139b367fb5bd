"""Names that forge rows of kernel tables: the kernel escapes four characters, Python's splitlines splits at ten.

Anybody who may name a directory that is mounted chooses these: a volume's source, a file system's source, a cgroup.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.runtime import rootfs as images

NAMES = ["a\rb\rc", "x\x0b1 2", "\x1c", "\x85", "\u2028", "q\x0c", "tab\tnew\nline", "back\\slash \\040", b"\xff\r\xfe"]
LIBRARIES = images.LIBRARY_DIRECTORY["debian"]


def bind(source, destination):
    return {"destination": destination, "source": str(source), "type": "bind", "options": ["rbind", "rprivate"]}


@pytest.fixture
def hostile_mounts(runtime, directory):
    """Bind mounts on the runtime's host whose sources have such names."""
    mounted = []
    for number, name in enumerate(NAMES):
        source = directory / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        target = directory / f"target{number}"
        source.mkdir()
        target.mkdir()
        runtime.host.call("mount", "--no-canonicalize", "--bind", source, target)
        mounted.append(target)
    yield mounted
    for target in mounted:
        runtime.host.call("umount", target)


def test_a_start_beside_mounts_of_odd_names(runtime, make_bundle, simulated, hostile_mounts, canary, tally):
    canary.seal()
    seen = runtime.run(make_bundle("open=/dev/nvidia0", gpus="all")).seen()
    tally.count()
    assert seen["open=/dev/nvidia0"] == "ENXIO"
    assert canary.is_untouched()


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x1c", "\x85", "\u2028"])
def test_a_volume_does_not_pass_for_the_containers_own(enter, machine, runc, directory, canary, tally, separator):
    """A row that is forged behind the separator stands outside the rootfs, and so the host is not asked."""
    (directory / "bundle").mkdir()
    rootfs = images.copy(machine.image("debian"), directory / "bundle" / "rootfs")
    source = canary.directory / f"x{separator}99 98 0:1"
    source.mkdir()
    (source / "data").write_text("of the host")
    with enter(rootfs) as container:
        command = ["nsenter", "--mount", f"--target={container.pid}", "mount", "--no-canonicalize", "--bind"]
        subprocess.run([*command, source, rootfs / LIBRARIES], check=True)
        canary.seal()
        outcome = container.attach()
        tally.count(outcome)
    assert "is a volume of the host" in outcome.refused
    assert canary.is_untouched()
