"""Names that look like the end of a row, or like a row, in the kernel's tables of mounts and cgroups.

Who may bind a volume, or makes a directory that somebody binds, names what stands in everybody's mount table.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base import mount_table, syscalls
from tests.runtime import rootfs as images
from tests.runtime.simulated import SimulatedHost

LIBRARIES = images.LIBRARY_DIRECTORY["debian"]
SEPARATORS = (
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1d",
    b"\x1e",
    b"\x85",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
)
ESCAPED = (b" ", b"\t", b"\n", b"\\", b"\\040", b"\\134")
NAMES = [b"a%bb%bc" % (each, each) for each in (*SEPARATORS, *ESCAPED, b"\xff", b" - ", b"#", b" shared:7 ", b"\r\n")]

UNDER_EVERY_RUNTIME: list[str | bytes] = [
    "a\rb\rc",
    "x\x0b1 2",
    "\x1c",
    "\x85",
    "\u2028",
    "q\x0c",
    "tab\tnew\nline",
    "back\\slash \\040",
    b"\xff\r\xfe",
]


@pytest.fixture
def host(directory):
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


@pytest.fixture
def command(runc, host):
    """Run `oci-gpu` on the host of the containers."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = Path(sys.executable).with_name("oci-gpu")
        done = runc.host.call(path, "--config", host.config, *arguments, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert "internal error" not in done.stderr + done.stdout, done.stderr + done.stdout
        return done

    return call


@pytest.fixture
def oddly_named(runc, directory):
    """Directories with such names, each bound onto itself on the host."""
    root = os.fsencode(directory / "odd")
    os.mkdir(root)
    paths = [root + b"/" + name for name in NAMES]
    for path in paths:
        os.mkdir(path)
        subprocess.run(
            [*runc.host.command("mount", "--bind"), path, path], check=True, capture_output=True
        )  # as bytes: some are not UTF-8
    yield paths
    for path in paths:
        subprocess.run([*runc.host.command("umount"), path], check=True, capture_output=True)


def volumes(paths: list[bytes]) -> list[dict]:
    """Return mounts of those directories whose names JSON can hold."""
    texts = [path.decode() for path in paths if path.decode("utf-8", "replace").encode() == path]
    assert len(texts) > len(SEPARATORS)
    return [
        {"destination": f"/data/{os.path.basename(text)}", "source": text, "type": "bind", "options": ["rbind"]}
        for text in texts
        if "\n" not in text  # runc refuses it as a destination
    ]


def test_mounts_with_such_names_keep_nobody_from_a_gpu(runc, make_bundle, host, command, oddly_named, tally):
    """On the host, and as volumes of one container; verify, repair and doctor look at all of them."""
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config, mounts=volumes(oddly_named))
    neighbour = make_bundle(args=("/bin/sleep", "100"), gpus="1", config=host.config, name="neighbour")
    with runc.started(bundle) as container, runc.started(neighbour) as other:
        tally.count()
        assert {os.path.basename(p) for p in oddly_named if b"\r" in p} <= {
            os.path.basename(mount_table.unescaped(row[3]))
            for row in mount_table.mounts(Path(f"/proc/{container.pid}/mountinfo").read_bytes())
        } | {b"a\r\nb\r\nc"}
        done = command("verify")
        assert done.stdout == "".join(f"{each}: has what it was given\n" for each in sorted((container.id, other.id)))
        assert command("repair", "--all").stdout == done.stdout
        checks = json.loads(command("doctor", "--json").stdout)
        (remains,) = [found for found in checks if found["check"] == "remains"]
        assert remains["what"] == "2 running containers were given GPUs"


@pytest.fixture
def hostile_mounts(runtime, directory):
    """Bind mounts on the runtime's host whose sources have such names."""
    mounted = []
    for number, name in enumerate(UNDER_EVERY_RUNTIME):
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


@pytest.mark.parametrize("destination", [f"/{LIBRARIES}", "/usr/bin"])
@pytest.mark.parametrize("separator", ["\r", "\r\n", "\x0b", "\u2028"], ids=ascii)
def test_a_forged_row_makes_no_volume_the_containers_own(
    enter, machine, directory, canary, tally, separator, destination
):
    """A directory is named `x`, separator, the id of the volume's mount; what follows reads like a device."""
    volume = canary.directory / "volume"
    volume.mkdir()
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    (rootfs / "x").mkdir()
    with enter(rootfs) as sandbox:
        into = ["nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", "--"]
        subprocess.run([*into, "mount", "--bind", volume, f"{rootfs}{destination}"], check=True)
        fd = os.open(sandbox.path(destination), os.O_PATH)
        number = syscalls.mount_id(fd)
        os.close(fd)
        forging = directory / f"x{separator}{number}"
        forging.mkdir()
        subprocess.run([*into, "mount", "--bind", forging, rootfs / "x"], check=True)
        canary.seal()
        outcome = sandbox.attach(warns=True)
        tally.count(outcome)
        assert outcome.refused == "" or "is a volume of the host" in outcome.refused
        assert canary.is_untouched()
        assert list(volume.iterdir()) == []


@pytest.mark.parametrize(
    "separator", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", " ", "\t", ":", "\udcff"], ids=ascii
)
def test_a_cgroup_with_such_a_name(enter, machine, directory, tally, separator):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs, cgroup_name=f"a{separator}5:devices:{separator}b") as sandbox:
        outcome = sandbox.attach(warns=True)
        tally.count(outcome)
        assert outcome.refused == ""
        assert sandbox.release().refused == ""


def entry_of(host: SimulatedHost, container_id: str) -> Path:
    """Return the one entry of the journal that is the container's."""
    directory = host.state_dir / "containers"
    (found,) = [path for path in directory.iterdir() if path.name.startswith(container_id) and path.suffix == ".json"]
    return found


HOSTILE_ID = "a\x1b]0;owned\x07\x1b[2J\u202egpj.\r\x85b"


def test_an_id_reaches_no_terminal_as_it_is(enter, machine, host, runc, directory, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    oci_gpu = [Path(sys.executable).with_name("oci-gpu"), "--config", host.config]
    with enter(rootfs, simulated=host, id=HOSTILE_ID, cgroup_name="hostile-id") as sandbox:
        assert sandbox.attach().refused == ""
        for change in (None, "nvidia0"):
            if change:
                sandbox.path(f"/dev/{change}").unlink()
            for arguments in (("verify",), ("leases",), ("repair", "--all"), ("verify", "nobody"), ("doctor",)):
                done = runc.host.call(*oci_gpu, *arguments, check=False)
                tally.count()
                lines = (done.stdout + done.stderr).split("\n")
                assert all(line.isprintable() for line in lines), (arguments, lines)
                assert arguments[0] != "verify" or "a\\x1b" in done.stdout or "nobody" in done.stderr
        entry = entry_of(host, HOSTILE_ID)
        entry.rename(entry.with_name(entry.name.replace(HOSTILE_ID, "x\x1by")))
    done = runc.host.call(*oci_gpu, "repair", "--all", check=False)
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))


BROKEN = {  # what only a damaged journal has, and what kills a loop that has not thought of it
    "mounts": ["/a\0b"],
    "nodePaths": ["/dev/nvidia0", "/dev/\0", "/dev/more/than/nodes"],
    "ldCache": ["/\udcff"],
    "cgroupsPath": "\0",
    "driver": "\x1b[2J",
}


@pytest.mark.parametrize("member", BROKEN)
def test_one_broken_entry_hides_no_other_container(runc, make_bundle, host, tally, member):
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    neighbour = make_bundle(args=("/bin/sleep", "100"), gpus="1", config=host.config, name="neighbour")
    oci_gpu = [Path(sys.executable).with_name("oci-gpu"), "--config", host.config]
    with runc.started(bundle) as container, runc.started(neighbour) as other:
        tally.count()
        journal = entry_of(host, container.id)
        good = journal.read_text()
        journal.write_text(json.dumps(json.loads(good) | {member: BROKEN[member]}))
        fine = f"{other.id}: has what it was given\n"
        for arguments in (("verify",), ("repair", "--all")):
            done = runc.host.call(*oci_gpu, *arguments, check=False)
            assert fine in done.stdout, done
            assert (done.stdout + done.stderr).replace("\n", "").isprintable()
            assert "Traceback" not in done.stderr
        found = json.loads(runc.host.call(*oci_gpu, "doctor", "--json", check=False).stdout)
        assert "2 running containers were given GPUs" in [each["what"] for each in found]
        journal.write_text(good)


def test_a_broken_entry_of_the_dead_fails_no_start(runc, make_bundle, host, tally):
    directory = host.state_dir / "containers"
    with runc.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        path = entry_of(host, container.id)
        entry = json.loads(path.read_text())
    broken = entry | {"id": "broken", "rootfs": "/\0", "pid": 4_000_000}
    of_the_dead = path.name.replace(container.id, "broken").replace(str(entry["pid"]), "4000000")
    (directory / of_the_dead).write_text(json.dumps(broken))
    (directory / of_the_dead).chmod(0o600)
    tally.count()
    bundle = make_bundle("open=/dev/nvidia0", gpus="0", config=host.config, name="next")
    assert runc.run(bundle).seen()["open=/dev/nvidia0"] == "ENXIO"


def test_real_tables_of_random_names(machine, directory):
    """Two hundred mounts in a namespace of their own, named by separators, escapes and rows: each is read right."""
    generator = random.Random(7)
    pieces = (
        *SEPARATORS,
        *ESCAPED,
        b"12 1 0:1 ",
        b" - tmpfs t rw",
        b"\n21 20 0:7 / /x rw - a b c",
        b"x",
        b"\xff",
        b"//deleted",
    )
    root = os.fsencode(directory / "t")
    os.mkdir(root)
    child = os.fork()
    if not child:
        status = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
            syscalls.mount_setattr(fd, 0, syscalls.MS_PRIVATE, syscalls.AT_RECURSIVE)
            os.chdir(root)
            _mount_and_read(generator, pieces)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def _mount_and_read(generator: random.Random, pieces: tuple[bytes, ...]) -> None:
    expected = {}
    for number in range(200):
        name = b"%d" % number + b"".join(generator.choices(pieces, k=generator.randint(1, 6))).replace(b"/", b"")
        os.mkdir(name)
        path = os.getcwdb() + b"/" + name
        onto = os.open(path, os.O_PATH)
        syscalls.move_mount(
            syscalls.clone_tree(os.fsdecode(path), syscalls.mount_attributes(0, syscalls.MS_PRIVATE)), onto
        )
        mounted = os.open(path, os.O_PATH)
        expected[syscalls.mount_id(mounted)] = (name, path)
    table = Path("/proc/self/mountinfo").read_bytes()
    rows = list(mount_table.mounts(table))
    assert len(rows) == table.count(b"\n")
    read = {row[0]: (mount_table.unescaped(row[3]), mount_table.unescaped(row[4])) for row in rows}
    for number, (name, path) in expected.items():
        shown_root, shown_point = read[number]
        assert os.path.basename(shown_root) == name
        assert shown_point == path
