"""Network interfaces and classes of service of CDI specifications: what a runtime is given that knows them or does not.

runc knows netDevices from 1.4 on, schemata and monitoring of intelRdt from 1.4 on too; no machine of these tests has
Intel RDT. So a stand-in for such a runtime tells of them, and keeps the config.json that it is given.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.counted import copied, lay
from tests.runtime.vendors import leases

KNOWING = """#!/usr/bin/python3 -ISB
import json, os, sys
if sys.argv[1:] == ["features"]:
    print(json.dumps({"linux": FEATURES}))
    sys.exit()
if "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    text = open(path).read()
    open("KEPT", "w").write(text)
    sys.exit()
os.execv("REAL", ["REAL", *sys.argv[1:]])
"""
ALL = {"netDevices": {"enabled": True}, "intelRdt": {"enabled": True, "schemata": True, "monitoring": True}}
EDITS = {
    "netDevices": [{"hostInterfaceName": "eth7", "name": "net0"}, {"hostInterfaceName": "eth8", "name": "net1"}],
    "intelRdt": {
        "closID": "guaranteed",
        "l3CacheSchema": "L3:0=ff",
        "memBwSchema": "MB:0=50",
        "schemata": ["L2:0=f"],
        "enableMonitoring": True,
    },
}
RESCTRL = re.compile(r"(?i)intel.?rdt|resctrl")  # what a runtime complains of where the kernel has it not
ASKED = {"env": ("OCI_GPU_DEVICES=net.com/nic=one",), "args": ("/bin/true",)}


@pytest.fixture
def knowing(runtime, configured, directory, front_path):
    """Make oci-gpu-runtime before a runtime that tells of features: knowing(features)."""

    def knowing(features: dict):
        program = directory / "knowing"
        real = shutil.which(runtime.binary) or runtime.binary
        kept = directory / "kept.json"
        text = KNOWING.replace("FEATURES", repr(features)).replace("KEPT", str(kept)).replace("REAL", real)
        program.write_text(text)
        program.chmod(0o755)
        front = copied(front_path, directory / "libexec") / "oci-gpu-runtime"
        stub = front.with_name("oci-gpu-runtime.py").read_text()
        lay(front, "runtime", stub.replace(repr(runtime.binary), repr(str(program))), program)
        return replace(runtime, binary=str(front)), kept

    return knowing


def describe(vendors, edits: dict) -> None:
    device = {"name": "one", "containerEdits": edits}
    vendors.write("net.json", {"cdiVersion": "1.1.0", "kind": "net.com/nic", "devices": [device]})


def test_a_runtime_that_knows_them_is_given_all_that_is_in_the_file(knowing, vendors, plain_bundle):
    describe(vendors, EDITS)
    front, kept = knowing(ALL)
    assert front.run(plain_bundle(**ASKED)).status == 0
    linux = json.loads(kept.read_text())["linux"]
    assert linux["netDevices"] == {"eth7": {"name": "net0"}, "eth8": {"name": "net1"}}
    assert linux["intelRdt"] == EDITS["intelRdt"]


RDT = {"enabled": True}


@pytest.mark.parametrize(
    ("features", "edits", "why", "least"),
    [
        ({"intelRdt": RDT}, {"netDevices": EDITS["netDevices"]}, "CDI network interface 'eth7': the", "1.4"),
        ({}, {"intelRdt": {"closID": "x"}}, "CDI intelRdt: the runtime", "1.1"),
        ({"intelRdt": RDT}, {"intelRdt": {"schemata": ["L2:0=f"]}}, "CDI intelRdt.schemata: the runtime", "1.4"),
        ({"intelRdt": RDT}, {"intelRdt": {"enableMonitoring": True}}, "CDI intelRdt.enableMonitoring: the", "1.4"),
    ],
    ids=["netDevices", "intelRdt", "schemata", "monitoring"],
)
def test_one_that_does_not_is_not_given_them(knowing, vendors, plain_bundle, simulated, features, edits, why, least):
    """It would start the container without them, and say nothing."""
    describe(vendors, edits)
    front, kept = knowing(features)
    refused = front.run(plain_bundle(**ASKED)).stderr
    assert why in refused
    assert f"use runc {least} or another runtime that names it in its `features`" in refused
    assert not kept.exists()
    assert leases(simulated) == []


@pytest.fixture
def interface(runtime):
    """A network interface of the host that nobody uses, and its name: one end of a pair, which every kernel has."""
    name, peer = f"cdi{os.getpid()}a", f"cdi{os.getpid()}b"
    runtime.host.call("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
    yield name
    runtime.host.call("ip", "link", "del", peer, check=False)  # both ends go, wherever the other one is


def test_the_real_runtime_moves_an_interface_or_is_not_asked_to(runtime, front, vendors, plain_bundle, interface):
    """Which of the two its `features` say."""
    describe(vendors, {"netDevices": [{"hostInterfaceName": interface, "name": "net7"}]})
    bundle = plain_bundle("read=/proc/net/dev", env=ASKED["env"])
    if tells_of(runtime, "netDevices"):
        seen = front.run(bundle).seen()["read=/proc/net/dev"]
        assert "net7:" in seen
        assert interface not in seen
    else:
        assert "moves none into containers" in front.run(bundle).stderr
        assert runtime.host.call("ip", "link", "show", interface).returncode == 0, "it has stayed"


def test_the_real_runtime_is_given_a_class_of_service(runtime, front, vendors, plain_bundle, simulated):
    """As the file states it. Without resctrl, as these machines are, it refuses, and says so itself.

    crun knows classes of service since it has `features`; before, it started the container without, and said nothing.
    """
    rdt = {"closID": "guaranteed", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=50"}
    describe(vendors, {"intelRdt": rdt})
    bundle = plain_bundle(**ASKED)
    result = front.run(bundle)
    given = json.loads((bundle.directory / "config.json").read_text())["linux"].get("intelRdt")
    if runtime.name.startswith("runc") or tells_of(runtime, "intelRdt"):
        assert given == rdt
        assert result.status == 0 if Path("/sys/fs/resctrl/schemata").exists() else result.status
        assert not result.status or RESCTRL.search(result.stderr), result.stderr
    else:
        assert given is None
        assert "CDI intelRdt: the runtime" in result.stderr
    assert leases(simulated) == []


def tells_of(runtime, feature: str) -> bool:
    """Return whether the real runtime's `features` have it; older ones have no such command."""
    said = runtime.host.call(runtime.binary, "features", check=False).stdout
    return bool(json.loads(said or "{}").get("linux", {}).get(feature, {}).get("enabled"))
