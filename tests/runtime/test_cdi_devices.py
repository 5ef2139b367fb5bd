"""Devices of other vendors, which CDI specification files describe, under every door."""

from __future__ import annotations

import json
import operator
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runtime import cdi_engine
from tests.runtime.fixtures import Bundler, oci_gpu
from tests.runtime.vendors import AMD, HABANA, INTEL, Vendors


@pytest.fixture
def vendors(front, directory):
    """Three vendors' specifications, in the directory that the configuration names."""
    found = Vendors(directory / "vendors")
    found.directory.mkdir(mode=0o755)
    found.make()
    config = front.host.path("/etc/oci-gpu-hook/config.toml")
    config.write_text(config.read_text() + f'\n[cdi]\nspec-dirs = ["{found.specs}"]\n')
    return found


def written(bundle) -> dict:
    return json.loads((bundle.directory / "config.json").read_bytes())


def opens(*paths):
    return [f"open=/dev/{path}" for path in paths]


BY: dict[str, Callable[[str], dict]] = {
    "variable": lambda names: {"env": (f"OCI_GPU_DEVICES={names}",)},
    "annotation": lambda names: {"annotations": {"io.oci-gpu-hook.devices": names}},
    "cdi": lambda names: {"annotations": {"cdi.k8s.io/test": names}},
}


@pytest.mark.parametrize("by", BY)
def test_a_device_by_name(front, plain_bundle, vendors, by):
    probes = opens("dri/renderD128", "dri/card1", "kfd", "dri/renderD129")
    seen = front.run(plain_bundle(*probes, **BY[by](f"{AMD}=0"))).seen()
    assert [seen[probe] for probe in probes] == ["ENXIO", "ENXIO", "ENXIO", "ENOENT"]


def test_all_that_a_specification_brings_comes_through_the_runtime(front, plain_bundle, vendors, directory):
    """Every field of containerEdits, and what its author left unsaid, from the host."""
    source = directory / "source"
    source.mkdir()
    (source / "file").write_text("of the host")
    (source / "file").chmod(0o666)
    said = directory / "said"
    program = directory / "hook"
    program.write_text(f'#!/bin/sh\ncat > "{said}-$1"\necho "$2 $MINE" >> "{said}"\n')
    program.chmod(0o755)
    hooks = [
        {
            "hookName": stage,
            "path": str(program),
            "args": ["hook", stage, "with spaces"],
            "env": ["MINE=1"],
            "timeout": 30,
        }
        for stage in ("createRuntime", "poststop")
    ]
    block = vendors.node("disk", 240, 7, kind=stat.S_IFBLK)
    odd = vendors.node("odd", 241, 1) | {"type": "u", "major": 241, "minor": 1, "permissions": "r"}
    unlisted = vendors.node("unlisted", 241, 2) | {"permissions": "none"}
    edits = {
        "env": ["A=1", "PATH=/mine"],
        "deviceNodes": [
            vendors.node("plain", 241, 0, mode=0o640), block, odd, unlisted,
            {"path": "/dev/fifo", "type": "p", "fileMode": 0o600},
        ],
        "mounts": [
            {"hostPath": str(source), "containerPath": "/opt/deep/inside", "options": ["rbind", "ro", "rslave"]},
            {"hostPath": str(source / "file"), "containerPath": "/opt/file", "options": ["bind", "rw", "nosuid"]},
            {"hostPath": "tmpfs", "containerPath": "/opt", "type": "tmpfs", "options": ["size=64k", "mode=755"]},
        ],
        "hooks": hooks,
        "additionalGids": [44, 45],
    }  # fmt: skip
    document = {"cdiVersion": "0.7.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    vendors.write("every.json", document)
    probes = [*opens("plain", "disk", "odd", "unlisted"), "open=/opt/deep/inside/file", "open=/opt/file"]
    looks = ["stat=/dev/plain", "stat=/dev/fifo", "getenv=PATH", "getenv=A", "read=/proc/self/status", "mountinfo"]
    bundle = plain_bundle(*probes, *looks, env=("OCI_GPU_DEVICES=every.com/thing=one",), user=(7, 8))
    seen = front.run(bundle).seen()
    assert [seen[probe] for probe in probes] == ["ENXIO", "ENXIO", "EPERM", "EPERM", "EROFS", "opened"]
    assert seen["stat=/dev/plain"] == "c 241:0 640 7:8", "the process's user and group, the host's mode"
    assert seen["stat=/dev/fifo"].startswith("? ")
    assert (seen["getenv=PATH"], seen["getenv=A"]) == ("/mine", "1")
    groups = next(line for line in seen["read=/proc/self/status"].splitlines() if line.startswith("Groups:"))
    assert {"44", "45"} <= {*groups.split()[1:]}
    mounts = {row.split()[4]: row for row in seen["mountinfo"].splitlines()}
    assert " master:" in mounts["/opt/deep/inside"] or "shared" not in mounts["/opt/deep/inside"]
    assert "size=64k" in mounts["/opt"]
    assert list(mounts).index("/opt") < list(mounts).index("/opt/file") < list(mounts).index("/opt/deep/inside")
    assert json.loads((directory / "said-createRuntime").read_text())["id"]
    assert said.read_text().splitlines() == ["with spaces 1"] * 2


def test_a_bundle_started_again_has_what_it_was_given_last(front, plain_bundle, vendors):
    """What a specification brings comes out again; what somebody else has changed meanwhile stays."""
    bundle = plain_bundle(
        *opens("accel/accel0", "accel/accel1"),
        "getenv=HABANA_MODULE",
        "getenv=MINE",
        annotations={"cdi.k8s.io/x": f"{HABANA}=0"},
    )
    before = json.loads(json.dumps(bundle.config))
    assert front.run(bundle).seen()["open=/dev/accel/accel0"] == "ENXIO"
    bundle.config = written(bundle)
    bundle.config["process"]["env"].append("MINE=1")
    bundle.config["annotations"]["cdi.k8s.io/x"] = f"{HABANA}=AC1-UUID"
    seen = front.run(bundle).seen()
    assert [seen[probe] for probe in opens("accel/accel0", "accel/accel1")] == ["ENOENT", "ENXIO"]
    assert (seen["getenv=HABANA_MODULE"], seen["getenv=MINE"]) == ("", "1")
    config = written(bundle)
    rules = [rule for rule in config["linux"]["resources"]["devices"] if rule.get("major") == 261]
    assert sorted(rule["minor"] for rule in rules) == [1, 65]
    assert len(config["mounts"]) == len(before["mounts"]) + 1
    bundle.config = config
    del bundle.config["annotations"]["cdi.k8s.io/x"]
    seen = front.run(bundle).seen()
    assert seen["open=/dev/accel/accel1"] == "ENOENT"
    left = written(bundle)
    place = operator.itemgetter("destination")
    assert sorted(left["mounts"], key=place) == sorted(before["mounts"], key=place), "but for their order"
    assert not left["linux"].get("devices")
    assert left["linux"]["resources"]["devices"] == before["linux"]["resources"]["devices"]


def test_devices_of_several_kinds_and_a_gpu_together(front, plain_bundle, vendors, simulated):
    names = f"{AMD}=1,{INTEL}=0000-03-00-0-0x56c0,nvidia.com/gpu=0"
    probes = opens("dri/renderD129", "dri/renderD136", "dri/renderD137", "nvidia0", "nvidia1")
    bundle = plain_bundle(
        *probes, "dlopen=libcuda.so.1", env=(f"OCI_GPU_DEVICES={names}", "NVIDIA_VISIBLE_DEVICES=all")
    )
    bundle.config["process"]["args"] = ["/probe", *probes, "dlopen=libcuda.so.1"]
    with front.created(bundle) as container:
        (found,) = {lease["container"] for lease in leases(simulated)}
        assert found == container.id
        held = {gpu for lease in leases(simulated) for gpu in lease["gpus"]}
        assert held == {f"{AMD}=1", f"{INTEL}=0000-03-00-0-0x56c0", simulated.gpus()[0].uuid}
    seen = front.run(bundle).seen()
    assert [seen[probe] for probe in probes] == ["ENXIO", "ENXIO", "ENOENT", "ENXIO", "ENOENT"]
    assert leases(simulated) == []


def leases(simulated) -> list[dict]:
    return json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))


def alone(kind, count=1):
    return {"env": (f"OCI_GPU_COUNT={count}", f"OCI_GPU_KIND={kind}", "OCI_GPU_EXCLUSIVE=1")}


def test_counts_and_leases_of_any_kind(front, plain_bundle, vendors, simulated):
    probes = opens("dri/renderD128", "dri/renderD129")
    sleep = ("/bin/sleep", "60")
    with front.started(plain_bundle(name="first", args=sleep, **alone(AMD))) as first:
        (lease,) = leases(simulated)
        assert (lease["container"], lease["gpus"], lease["exclusive"]) == (first.id, [f"{AMD}=0"], True)
        assert lease["pid"] == first.pid
        seen = front.run(plain_bundle(*probes, name="second", **alone(AMD))).seen()
        assert [seen[probe] for probe in probes] == ["ENOENT", "ENXIO"]
        refused = front.run(plain_bundle(name="third", args=sleep, **alone(AMD, 2))).stderr
        assert f"2 {AMD} devices asked for exclusively" in refused
        assert f"1 of 2 available; {AMD}=0 held by '{first.id}' exclusively" in refused
        named = front.run(plain_bundle(name="named", args=sleep, env=(f"OCI_GPU_DEVICES={AMD}=all",))).stderr
        assert f"{AMD}=0 ({AMD}=0) cannot be granted: container '{first.id}' holds it exclusively" in named
        assert front.run(plain_bundle(name="other", args=("/bin/true",), **alone(INTEL, 2))).status == 0
    assert leases(simulated) == []


def test_two_names_of_a_device_are_one_device(front, plain_bundle, vendors, simulated):
    sleep = ("/bin/sleep", "60")
    env = (f"OCI_GPU_DEVICES={HABANA}=AC0-UUID", "OCI_GPU_EXCLUSIVE=true")
    with front.started(plain_bundle(name="uuid", args=sleep, env=env)):
        refused = front.run(plain_bundle(name="index", args=sleep, env=(f"OCI_GPU_DEVICES={HABANA}=0",)))
        assert "holds it exclusively" in refused.stderr
        assert (
            front.run(plain_bundle(name="free", args=("/bin/true",), env=(f"OCI_GPU_DEVICES={HABANA}=1",))).status == 0
        )


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("amd.com/gpu=7", "of amd.com/gpu they have 0, 1, all; name one of these"),
        ("nobody.com/nic=0", "has devices of nobody.com/nic; they have "),
        ("twice.com/x=a", "so that no engine gives it; remove one of the files"),
        ("gone.com/x=a", "the host lacks a node of it (/dev/absent: No such file or directory)"),
        ("amd.com/gpu=0,oops", "'oops' cannot be the name of a device"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_line(front, plain_bundle, vendors, simulated, names, why):
    one = {"name": "a", "containerEdits": {"env": ["A=1"]}}
    for name in ("twice-1.json", "twice-2.json"):
        vendors.write(name, {"cdiVersion": "0.5.0", "kind": "twice.com/x", "devices": [one]})
    node = {"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/absent"}]}}
    vendors.write("gone.json", {"cdiVersion": "0.5.0", "kind": "gone.com/x", "devices": [node]})
    result = front.run(plain_bundle(args=("/bin/true",), env=(f"OCI_GPU_DEVICES={names}",)))
    assert result.status == 1
    assert result.stderr.count("oci-gpu-runtime: error: ") == 1
    assert why in result.stderr
    assert leases(simulated) == []


def test_broken_files_fail_nobody_who_asks_for_something_else(front, plain_bundle, vendors):
    (vendors.specs / "bomb.yaml").write_text(
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a]\n" for n in range(9))
    )
    (vendors.specs / "latin.json").write_bytes(b'{"kind": "\xff"}')
    (vendors.specs / "huge.yaml").write_bytes(b"x" * (1 << 20))
    (vendors.specs / "dangling.json").symlink_to("/absent")
    open_to_all = vendors.write(
        "anybody.json",
        {"cdiVersion": "0.5.0", "kind": "evil.com/x", "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}]},
    )
    open_to_all.chmod(0o666)
    assert front.run(plain_bundle(args=("/bin/true",), name="good", env=(f"OCI_GPU_DEVICES={AMD}=0",))).status == 0
    refused = front.run(plain_bundle(args=("/bin/true",), name="evil", env=("OCI_GPU_DEVICES=evil.com/x=a",)))
    assert "no specification in" in refused.stderr
    assert "could not be used" in refused.stderr


def test_a_changed_specification_counts_at_once(front, plain_bundle, vendors):
    env = ("OCI_GPU_DEVICES=new.com/x=a",)
    assert front.run(plain_bundle(args=("/bin/true",), name="before", env=env)).status == 1
    for value in ("1", "2"):
        edits = {"env": [f"SEEN={value}"]}
        vendors.write(
            "new.json",
            {"cdiVersion": "0.5.0", "kind": "new.com/x", "devices": [{"name": "a", "containerEdits": edits}]},
        )
        seen = front.run(plain_bundle("getenv=SEEN", name=f"with-{value}", env=env)).seen()
        assert seen["getenv=SEEN"] == value
    vendors.specs.chmod(0o777)  # which changes nothing but who may write there
    assert "where others could exchange it" in front.run(plain_bundle(args=("/bin/true",), name="open", env=env)).stderr


@dataclass(frozen=True)
class ByHook:
    """Makes bundles with the hook registered as an operator would, whose configuration names the specifications."""

    vendors: Vendors
    config: Path
    make_bundle: Bundler

    def __call__(self, *probe: str, **options):
        return self.make_bundle(*probe, config=self.config, **options)


@pytest.fixture
def by_hook(runtime, make_bundle, simulated, directory):
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


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"env": ["A=1"]}, "CDI variable 'A=1': a hook cannot set variables"),
        ({"hooks": [{"hookName": "poststop", "path": "/bin/true"}]}, "CDI hook '/bin/true' (poststop): a hook cannot"),
        ({"netDevices": [{"hostInterfaceName": "eth7", "name": "eth0"}]}, "CDI network interface 'eth7'"),
        ({"intelRdt": {"closID": "x"}}, "CDI intelRdt: a hook comes after"),
        (
            {"deviceNodes": [{"path": "/dev/p", "type": "p"}]},
            "CDI device node '/dev/p': a hook gives character devices",
        ),
        (
            {"deviceNodes": [{"path": "/dev/b", "type": "b", "major": 7, "minor": 1}]},
            "CDI device node '/dev/b': a hook gives character devices",
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
def test_what_the_hook_alone_cannot_do_it_refuses_and_says_who_can(runc_v2, runtime, by_hook, simulated, edits, why):
    if runtime is not runc_v2:
        pytest.skip("a refusal does not depend on the runtime")
    document = {"cdiVersion": "1.1.0", "kind": "every.com/thing", "devices": [{"name": "one", "containerEdits": edits}]}
    by_hook.vendors.write("every.json", document)
    bundle = by_hook(args=("/bin/true",), annotations={"cdi.k8s.io/x": "every.com/thing=one"})
    complaint = runtime.run(bundle).complaint()
    assert complaint.startswith(why)
    assert "start the container through oci-gpu-runtime" in complaint
    assert leases(simulated) == []


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


def test_verify_and_repair(runtime, by_hook):
    def command(*arguments):
        program = Path(sys.executable).with_name("oci-gpu")
        return runtime.host.call(program, "--config", by_hook.config, *arguments, check=False)

    bundle = by_hook(args=("/bin/sleep", "60"), annotations={"io.oci-gpu-hook.devices": f"{AMD}=0"})
    with runtime.started(bundle) as container:
        assert "has what it was given" in command("verify", container.id).stdout
        node = container.path("/dev/dri/renderD128")
        node.unlink()
        assert "device '/dev/dri/renderD128': is not there" in command("verify", container.id).stdout
        assert command("repair", container.id).returncode == 0
        assert stat.S_ISCHR(node.stat().st_mode)
        assert "has what it was given" in command("verify", container.id).stdout
        (by_hook.vendors.specs / "amd.json").unlink()
        assert "no CDI specification of this host has it any more" in command("verify", container.id).stdout


def test_a_wait_covers_a_device_that_is_still_to_come(front, plain_bundle, vendors):
    """As at boot, when the vendor's tool writes its file after the engine has started."""
    path = vendors.specs / "amd.json"
    later = path.read_bytes()
    path.unlink()
    env = (f"OCI_GPU_DEVICES={AMD}=0", "OCI_GPU_WAIT=60s")
    short = front.run(plain_bundle(name="short", args=("/bin/true",), env=(env[0], "OCI_GPU_WAIT=1s"))).stderr
    assert f"CDI device '{AMD}=0': no specification in {vendors.specs} has devices of {AMD}" in short
    assert f"s for the CDI device '{AMD}=0'" in short
    timer = threading.Timer(1.5, path.write_bytes, (later,))
    timer.start()
    seen = front.run(plain_bundle(*opens("dri/renderD128"), name="long", env=env)).seen()
    timer.join()
    assert seen["open=/dev/dri/renderD128"] == "ENXIO"
