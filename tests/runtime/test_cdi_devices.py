"""Devices of other vendors, which CDI specification files describe, through oci-gpu-runtime."""

from __future__ import annotations

import json
import operator
import stat
from collections.abc import Callable

import pytest

from tests.runtime.vendors import AMD, HABANA, INTEL, leases, opens


def written(bundle) -> dict:
    return json.loads((bundle.directory / "config.json").read_bytes())


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
    assert seen["stat=/dev/fifo"] == "p 0 600 7:8"
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


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("amd.com/gpu=7", "of amd.com/gpu they have 0, 1, all; name one of these"),
        ("nobody.com/nic=0", "has devices of nobody.com/nic; they have "),
        ("twice.com/x=a", "so engines refuse it; remove one of the files"),
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


def test_in_a_pod_a_name_that_is_unknown_here_may_be_the_engines(front, plain_bundle, vendors, simulated):
    noted = {"cdi.k8s.io/x": f"nobody.com/x=0,{AMD}=0"}
    assert "no specification in" in front.run(plain_bundle(args=("/bin/true",), name="alone", annotations=noted)).stderr
    pod = {"io.kubernetes.cri.container-type": "container"}
    seen = front.run(plain_bundle(*opens("kfd"), name="pod", annotations=noted | pod)).seen()
    assert seen["open=/dev/kfd"] == "ENXIO"
    only = {"cdi.k8s.io/x": "nobody.com/x=0"} | pod
    assert front.run(plain_bundle(args=("/bin/true",), name="only", annotations=only)).status == 0
    assert leases(simulated) == []
