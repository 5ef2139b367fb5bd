"""Which nodes go when devices are taken from a running container, and what systemd is told of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.systemd import drop_in, private_bus
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle import asked, parting, taking
from oci_gpu_hook.oci.container import State, parse_config


def test_systemd_is_not_told_again_to_permit_what_is_taken(monkeypatch):
    """It keeps what it was told at the start, by the hook or by the runtime, in a drop-in of its own."""
    told = {"/dev/char/195:0": "rwm", "/dev/char/195:1": "rwm", "/dev/null": "rw"}
    heard = {}
    monkeypatch.setattr(drop_in, "others", lambda _unit: told)
    monkeypatch.setattr(drop_in, "drop_in", lambda _unit, _nodes: None)
    monkeypatch.setattr(private_bus, "allow_only", lambda unit, devices: heard.update({unit: devices}))
    taking._tell_systemd("docker-a.scope", [(195, 1), (195, 255)], [(195, 0)])
    assert heard == {
        "docker-a.scope": {"/dev/char/195:1": "rw", "/dev/null": "rw", "/dev/char/195:255": "rw"},
    }


NODES = {"A": (195, 0), "B": (195, 1)}
CONTROL = (195, 255)


@pytest.fixture
def parts_of(monkeypatch):
    """Return what goes with devices of a container that has A and B, where the driver lists those that are `known`."""

    def parts_of(going, known):
        def edits(_request, _inventory, devices):
            found = [*(NODES[device.uuid] for device in devices), CONTROL]
            nodes = [SimpleNamespace(type="c", major=major, minor=minor) for major, minor in found]
            return SimpleNamespace(device_nodes=nodes)

        vendor = SimpleNamespace(
            TERMS=SimpleNamespace(whole="GPU"),
            snapshot=lambda _request, _config: SimpleNamespace(inventory=None),
            devices=lambda _inventory, _config: [SimpleNamespace(uuid=uuid) for uuid in known],
            device_edits=edits,
            views=lambda _devices: (),
        )
        request = SimpleNamespace(kind="nvidia.com/gpu")
        monkeypatch.setattr(vendors, "of", lambda _kind: vendor)
        monkeypatch.setattr(asked, "of_running", lambda _container, _entry, _config: request)
        monkeypatch.setattr(asked, "with_devices", lambda *_arguments: request)
        entry = Entry(
            id="c",
            pid=1,
            start_time=1,
            bundle="/b",
            rootfs="/b/rootfs",
            rootfs_identity=(1, 2),
            changes=(),
            gpus=("A", "B"),
            nodes=(*NODES.values(), CONTROL),
            node_paths=("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"),
        )
        state = State(id="c", pid=1, bundle="/b", root="", annotations={})
        container = parse_config(b'{"root": {"path": "rootfs"}, "process": {"env": []}, "linux": {}}', state)
        return parting.parts_of(going, entry, container, Config())

    return parts_of


@pytest.mark.parametrize("known", [("A", "B"), ("B",)], ids=["listed", "lost"])
def test_the_nodes_of_a_gpu_go_also_when_the_driver_lists_it_no_longer(parts_of, known):
    assert parts_of(("A",), known).nodes == {(195, 0): "/dev/nvidia0"}


def test_nothing_goes_where_what_stays_cannot_be_told(parts_of):
    with pytest.raises(InvalidInput, match=r"no longer listed on this host.*detach all of them"):
        parts_of(("A",), ("A",))
