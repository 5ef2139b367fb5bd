"""Network interfaces and classes of service of CDI specifications: what a runtime is given that knows them or does not.

runc knows netDevices from 1.4 on, schemata and monitoring of intelRdt from 1.4 on too; no machine of these tests has
Intel RDT. So a stand-in for such a runtime tells of them, and keeps the config.json that it is given.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from tests.runtime.fixtures import oci_gpu
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
ASKED = {"env": ("OCI_GPU_DEVICES=net.com/nic=one",), "args": ("/bin/true",)}


@pytest.fixture
def knowing(runtime, configured, directory):
    """Make oci-gpu-runtime before a runtime that tells of features: knowing(features)."""

    def knowing(features: dict):
        program = directory / "knowing"
        real = shutil.which(runtime.binary) or runtime.binary
        kept = directory / "kept.json"
        text = KNOWING.replace("FEATURES", repr(features)).replace("KEPT", str(kept)).replace("REAL", real)
        program.write_text(text)
        program.chmod(0o755)
        where = directory / "libexec"
        front = oci_gpu("hook-path", "--runtime", "--directory", where, "--real-runtime", program).strip()
        return replace(runtime, binary=front), kept

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


@pytest.mark.parametrize(
    ("lacking", "edits", "why"),
    [
        ("netDevices", {"netDevices": EDITS["netDevices"]}, "CDI network interface 'eth7': the runtime"),
        ("schemata", {"intelRdt": {"closID": "x", "schemata": ["L2:0=f"]}}, "CDI intelRdt.schemata: the runtime"),
        ("monitoring", {"intelRdt": {"closID": "x", "enableMonitoring": True}}, "CDI intelRdt.enableMonitoring: the"),
    ],
)
def test_one_that_does_not_is_not_given_them(knowing, vendors, plain_bundle, simulated, lacking, edits, why):
    """It would start the container without them, and say nothing."""
    describe(vendors, edits)
    front, kept = knowing({name: value for name, value in ALL.items() if lacking == "netDevices" != name})
    refused = front.run(plain_bundle(**ASKED)).stderr
    assert why in refused
    assert "use runc 1.4 or another runtime that names it in its `features`" in refused
    assert not kept.exists()
    assert leases(simulated) == []


def test_the_real_runtime_moves_an_interface_or_is_not_asked_to(runtime, front, vendors, plain_bundle):
    """Which of the two its `features` say."""
    describe(vendors, {"netDevices": [{"hostInterfaceName": "cdi-test0", "name": "net7"}]})
    bundle = plain_bundle("read=/proc/net/dev", env=ASKED["env"])
    bundle.config["linux"]["namespaces"].append({"type": "network"})
    said = runtime.host.call(runtime.binary, "features", check=False).stdout
    if '"netDevices"' in said:
        runtime.host.call("ip", "link", "add", "cdi-test0", "type", "dummy")
        assert "net7:" in front.run(bundle).seen()["read=/proc/net/dev"]
    else:
        assert "moves none into containers" in front.run(bundle).stderr
