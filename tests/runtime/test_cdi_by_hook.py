"""Devices of other vendors by the hook alone, which comes when the container's process is there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runtime import cdi_engine
from tests.runtime.fixtures import Bundler
from tests.runtime.vendors import AMD, HABANA, Vendors, leases, opens


@dataclass(frozen=True)
class ByHook:
    """Makes bundles with the hook registered as an operator would, whose configuration names the specifications."""

    vendors: Vendors
    config: Path
    make_bundle: Bundler

    def __call__(self, *probe: str, **options):
        return self.make_bundle(*probe, config=self.config, **options)


@pytest.fixture
def by_hook(make_bundle, simulated, directory):
    """No runtime of ours: the hook is alone."""
    found = Vendors(directory / "vendors")
    found.directory.mkdir(mode=0o755)
    found.make()
    config = directory / "config.toml"
    config.write_text(simulated.config.read_text() + f'\n[cdi]\nspec-dirs = ["{found.specs}"]\n')
    return ByHook(found, config, make_bundle)


@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "user-namespace"])
def test_the_hook_alone_gives_nodes_and_mounts(runtime, by_hook, directory, user_namespace):
    source = directory / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("of the host")
    runtime.host.call("mount", "-t", "tmpfs", "tmpfs", source / "below")
    edits = {
        "deviceNodes": [by_hook.vendors.node("plain", 241, 0)],
        "mounts": [
            {"hostPath": "tmpfs", "containerPath": "/opt", "type": "tmpfs", "options": ["size=64k", "mode=755"]},
            {"hostPath": str(source), "containerPath": "/opt/deep", "options": ["rbind", "rw", "nosuid"]},
            {"hostPath": str(source / "file"), "containerPath": "/etc/plain", "options": ["ro", "bind"]},
        ],
    }
    document = {"cdiVersion": "0.5.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    by_hook.vendors.write("every.json", document)
    probes = [
        *opens("plain", "dri/renderD128", "dri/renderD129"),
        "read=/etc/plain",
        "read=/opt/deep/file",
        "mountinfo",
    ]
    names = f"every.com/thing=one,{AMD}=0"
    bundle = by_hook(*probes, annotations={"io.oci-gpu-hook.devices": names}, user_namespace=user_namespace)
    seen = runtime.run(bundle).seen()
    runtime.host.call("umount", source / "below")
    assert [seen[probe] for probe in probes[:3]] == ["ENXIO", "ENXIO", "ENOENT"]
    assert (seen[probes[3]], seen[probes[4]]) == ("of the host", "of the host")
    mounts = {row.split()[4]: row for row in seen["mountinfo"].splitlines()}
    assert "size=64k" in mounts["/opt"]
    assert "/opt/deep/below" in mounts
    assert all("shared:" not in mounts[path] for path in ("/opt", "/opt/deep", "/opt/deep/below", "/etc/plain"))
    assert " ro," in mounts["/etc/plain"]
    assert " rw," in mounts["/opt/deep"]
    assert "nosuid" in mounts["/opt/deep"].split()[5]


@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "user-namespace"])
def test_the_hook_alone_gives_block_devices_and_fifos(runtime, by_hook, user_namespace):
    """A block device beside a character device of the same numbers, which stays closed, and a FIFO of its own."""
    edits = {
        "deviceNodes": [
            by_hook.vendors.node("disk", 240, 7, kind=stat.S_IFBLK),
            by_hook.vendors.node("char", 241, 3),
            {"path": "/dev//below/fifo/", "type": "p", "fileMode": 0o620},
        ]
    }
    document = {"cdiVersion": "0.5.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    by_hook.vendors.write("every.json", document)
    probes = [*opens("disk", "char"), "stat=/dev/disk", "stat=/dev/below/fifo"]
    unlike = ["mknod=/same:240:7", "open=/same"]
    named = {"io.oci-gpu-hook.devices": "every.com/thing=one"}
    bundle = by_hook(*probes, *unlike, annotations=named, user_namespace=user_namespace)
    seen = runtime.run(bundle).seen()
    assert [seen[probe] for probe in probes[:2]] == ["ENXIO", "ENXIO"]
    assert seen["stat=/dev/disk"].startswith("b 240:7 666 ")
    assert seen["stat=/dev/below/fifo"] == "p 0 620 0:0"
    if not user_namespace:  # which has no nodes that open
        assert [seen[probe] for probe in unlike] == ["made", "EPERM"]
    assert not {"disk", "char", "below"}.intersection(os.listdir(bundle.rootfs / "dev")), "nothing is left"


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"env": ["A=1"]}, "CDI variable 'A=1': a hook cannot set variables"),
        ({"hooks": [{"hookName": "poststop", "path": "/bin/true"}]}, "CDI hook '/bin/true' (poststop): a hook cannot"),
        ({"netDevices": [{"hostInterfaceName": "eth7", "name": "eth0"}]}, "CDI network interface 'eth7'"),
        ({"intelRdt": {"closID": "x"}}, "CDI intelRdt: a hook comes after"),
        (
            {"deviceNodes": [{"path": "/dev/b", "type": "b", "major": 7, "minor": 1, "permissions": "none"}]},
            "CDI device node '/dev/b': a hook gives nodes for reading and writing",
        ),
        (
            {"deviceNodes": [{"path": "/dev/r", "type": "c", "major": 241, "minor": 1, "permissions": "r"}]},
            "CDI device node '/dev/r': a hook gives nodes for reading and writing",
        ),
        (
            {"mounts": [{"hostPath": "/etc", "containerPath": "/mnt", "options": ["bind", "rshared"]}]},
            "CDI mount '/mnt': a hook does not know the option 'rshared'",
        ),
    ],
)
def test_what_the_hook_alone_cannot_do_it_refuses_and_says_who_can(runc_v2, by_hook, simulated, edits, why):
    document = {"cdiVersion": "1.1.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    by_hook.vendors.write("every.json", document)
    bundle = by_hook(args=("/bin/true",), annotations={"cdi.k8s.io/x": "every.com/thing=one"})
    complaint = runc_v2.run(bundle).complaint()
    assert complaint.startswith(why)
    assert "start the container through oci-gpu-runtime" in complaint
    assert leases(simulated) == []


def test_a_fifo_takes_no_files_place(runc_v2, by_hook):
    node = {"path": "/etc/passwd", "type": "p", "fileMode": 0o600}
    edits = {"deviceNodes": [node]}
    document = {"cdiVersion": "0.5.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    by_hook.vendors.write("every.json", document)
    bundle = by_hook(args=("/bin/true",), annotations={"cdi.k8s.io/x": "every.com/thing=one"})
    (bundle.rootfs / "etc/passwd").write_text("of the image")
    assert "cannot create '/etc/passwd' in the container: something else" in runc_v2.run(bundle).complaint()
    assert (bundle.rootfs / "etc/passwd").read_text() == "of the image"


def test_what_an_engine_has_applied_is_not_applied_again(runtime, by_hook, simulated):
    """The engine's config.json has the nodes, variables and mounts of the specification: nothing is left to refuse."""
    annotations = {"cdi.k8s.io/x": f"{HABANA}=0"}
    bundle = by_hook(*opens("accel/accel0"), "getenv=HABANA_MODULE", "mountinfo", annotations=annotations)
    specification = json.loads((by_hook.vendors.specs / "habana.json").read_text())
    cdi_engine.apply(specification, ("0",), bundle.config)
    with runtime.created(bundle) as container:
        assert [lease["gpus"] for lease in leases(simulated) if lease["container"] == container.id] == [
            [f"{HABANA}=AC0-UUID"]
        ]
    seen = runtime.run(bundle).seen()
    assert (seen["open=/dev/accel/accel0"], seen["getenv=HABANA_MODULE"]) == ("ENXIO", "0")
    assert seen["mountinfo"].count("/usr/lib/habanalabs/libhl_logger.so") == 1


@pytest.mark.parametrize("kind", ["c", "b"])
def test_verify_and_repair(runtime, by_hook, kind):
    def command(*arguments):
        program = Path(sys.executable).with_name("oci-gpu")
        return runtime.host.call(program, "--config", by_hook.config, *arguments, check=False)

    if kind == "b":
        disk = by_hook.vendors.node("disk", 240, 7, kind=stat.S_IFBLK) | {"path": "/dev/dri/renderD128"}
        pipe = {"path": "/dev/pipe", "type": "p"}
        device = {"name": "0", "containerEdits": {"deviceNodes": [disk, pipe]}}
        by_hook.vendors.write("amd.json", {"cdiVersion": "0.5.0", "kind": AMD, "devices": [device]})
    bundle = by_hook(args=("/bin/sleep", "60"), annotations={"io.oci-gpu-hook.devices": f"{AMD}=0"})
    with runtime.started(bundle) as container:
        assert "has what it was given" in command("verify", container.id).stdout
        node = container.path("/dev/dri/renderD128")
        node.unlink()
        assert "device '/dev/dri/renderD128': is not there" in command("verify", container.id).stdout
        assert command("repair", container.id).returncode == 0
        assert stat.S_IFMT(node.stat().st_mode) == (stat.S_IFBLK if kind == "b" else stat.S_IFCHR)
        assert "has what it was given" in command("verify", container.id).stdout
        (by_hook.vendors.specs / "amd.json").unlink()
        assert "no CDI specification of this host has it any more" in command("verify", container.id).stdout


@pytest.mark.skipif(not Path("/sys/block/loop0").exists(), reason="the kernel has no block device that nobody uses")
def test_a_block_device_that_is_open_is_not_detached(runtime, by_hook):
    """An open after it is refused, as of a character device."""
    disk = by_hook.vendors.node("disk", 7, 0, kind=stat.S_IFBLK)
    device = {"name": "0", "containerEdits": {"deviceNodes": [disk]}}
    by_hook.vendors.write("disk.json", {"cdiVersion": "0.5.0", "kind": "disks.com/disk", "devices": [device]})
    bundle = by_hook(args=("/bin/sleep", "60"), annotations={"io.oci-gpu-hook.devices": "disks.com/disk=0"})
    with runtime.started(bundle) as container:
        assert container.exec("/bin/busybox", "mknod", "/own", "b", "7", "0").status == 0
        holds = ("/bin/busybox", "sh", "-c", "exec 9</own; echo open; exec sleep 60")
        command = runtime.host.command(runtime.binary, "--root", runtime.state_dir, "exec", container.id, *holds)
        program = Path(sys.executable).with_name("oci-gpu")
        words = ("--config", by_hook.config, "detach", container.id, "--all", "--runtime-root", runtime.state_dir)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            refused = runtime.host.call(program, *words, check=False)
            assert "('sleep'); end them first" in refused.stderr, refused.stderr
            assert container.exec("/probe", "open=/own").seen() == {"open=/own": "opened"}
            forced = runtime.host.call(program, *words, "--force", check=False)
            assert "(sleep)\n" in forced.stdout, forced.stderr
        assert container.exec("/probe", "open=/own").seen() == {"open=/own": "EPERM"}
