"""GPUs that the driver has lost: who is refused, who is given others, and how a start notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.doctor import gpus as doctor
from oci_gpu_hook.admin.doctor.model import ERROR, Host
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.allocation import select
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError, DriverError, HookError, InvalidInput
from oci_gpu_hook.devices.nvidia import cdi_container, cdi_hook, discovery, facts, nvml, snapshot, vendor
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.image_facts import ImageFacts
from oci_gpu_hook.lifecycle.restriction import Restriction, restricted_to
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.request.model import Request

SCHEMAS = Path(__file__).parents[4] / "schemas"
NOTHING = b"\xff" * 64  # what every read of a device that has fallen off the bus gives
MIG = ("3g.40gb", "1g.10gb")
COMPUTE = {"driver_capabilities": ("compute", "utility"), "source": "environment"}


def host(tmp_path, **options):
    """Make a host without nodes, whose nodes nobody needs who only chooses."""
    made = make(str(tmp_path / "host"), device_nodes=False, **options)
    return made, configs.load(made.config)


def asks(*names, **fields):
    return Request(devices=names, **{"count": None, **COMPUTE, **fields})


def chosen(request, config, held=()):
    """Return what the request is granted, as the devices' UUIDs."""
    found = vendor.snapshot(request, config)
    return [device.uuid for device in select.choose(request, vendor.devices(found.inventory, config), held)]


def config_space(made, index):
    return f"{made.sys_root}/bus/pci/devices/{made.gpus[index].bus_id}/config"


def lose(made, index):
    """Let a GPU fall off the bus: nothing else of the host changes, as when it really happens."""
    with open(config_space(made, index), "r+b") as file:
        file.write(NOTHING)


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_counts_and_all_pass_it_over(tmp_path, kind):
    made, config = host(tmp_path, gpus=3, **{kind: (0,)})
    working = [made.gpus[1].uuid, made.gpus[2].uuid]
    assert chosen(asks(count=1), config) == working[:1]
    assert chosen(asks(count=1, exclusive=True), config) == working[:1]
    assert chosen(asks(count=2), config) == chosen(asks("all"), config) == working
    with pytest.raises(AllocationError, match="this host has 2, and 1 that cannot be used"):
        chosen(asks(count=3), config)


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_indices_are_those_of_nvml(tmp_path, kind):
    """nvidia-smi counts a GPU that is lost, and does not count one that the driver never started."""
    made, config = host(tmp_path, gpus=3, **{kind: (0,)})
    listed = subprocess.run(
        [f"{made.driver_root}/usr/bin/nvidia-smi", "-L"], capture_output=True, text=True, check=True
    )
    of_nvml = {line.split(":")[0].split()[1]: line for line in listed.stdout.splitlines() if line.startswith("GPU ")}
    assert of_nvml
    for index, line in of_nvml.items():
        (uuid,) = chosen(asks(index), config)
        assert f"(UUID: {uuid})" in line
    unlisted = "0" if kind == "lost" else "2"
    with pytest.raises(InvalidInput, match="lost"):
        chosen(asks(unlisted), config)


@pytest.mark.parametrize("name", ["{index}", "{uuid}", "{bus}", "{working},{uuid}", "{upper}"])
def test_a_name_of_it_is_refused_with_what_happened(tmp_path, name):
    made, config = host(tmp_path, gpus=2, lost=(1,))
    gpu = made.gpus[1]
    text = name.format(index=1, uuid=gpu.uuid, bus=gpu.bus_id, working=made.gpus[0].uuid, upper=gpu.uuid.upper())
    with pytest.raises(InvalidInput) as caught:
        chosen(asks(*text.split(",")), config)
    assert gpu.uuid in caught.value.what
    assert caught.value.why == "the driver has lost it: it does not answer on the PCI bus"
    assert "dmesg" in caught.value.remedy


def test_the_uuid_of_one_that_the_driver_could_not_start_is_unknown_and_the_refusal_says_why(tmp_path):
    made, config = host(tmp_path, gpus=2, sick=(1,))
    with pytest.raises(InvalidInput) as caught:
        chosen(asks(made.gpus[1].uuid), config)
    bus_id = f"0000{made.gpus[1].bus_id}"
    assert f"the driver has lost GPU {bus_id}: NVML does not count it" in caught.value.why
    with pytest.raises(InvalidInput, match="the driver has lost it"):
        chosen(asks(bus_id), config)


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_all_of_a_host_where_none_works_is_refused(tmp_path, kind):
    _, config = host(tmp_path, gpus=2, **{kind: (0, 1)})
    with pytest.raises(InvalidInput, match="this host has none that works; the driver has lost GPU"):
        chosen(asks("all"), config)
    with pytest.raises(AllocationError, match="this host has 0, and 2 that cannot be used"):
        chosen(asks(count=1), config)


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_mig_devices_of_it_are_passed_over_and_refused(tmp_path, kind):
    made, config = host(tmp_path, gpus=2, mig=MIG, **{kind: (0,)})
    working = [device.uuid for device in made.gpus[1].mig_devices]
    assert chosen(asks("all"), config) == working
    assert chosen(asks("1g.10gb", count=1), config) == working[1:]
    with pytest.raises(AllocationError, match="this host has 1"):
        chosen(asks("1g.10gb", count=2), config)
    gone = made.gpus[0].mig_devices[0].uuid
    with pytest.raises(InvalidInput, match="the driver has lost GPU"):
        chosen(asks(gone), config)
    of_index = "1:1" if kind == "lost" else "0:1"
    assert chosen(asks(of_index), config) == working[1:]


def test_one_that_is_lost_after_the_inventory_was_stored_is_noticed(tmp_path):
    made, config = host(tmp_path, gpus=2)
    assert chosen(asks("all"), config) == [gpu.uuid for gpu in made.gpus]
    lose(made, 0)
    assert chosen(asks(count=1), config) == [made.gpus[1].uuid]
    with pytest.raises(InvalidInput, match="it does not answer on the PCI bus"):
        chosen(asks(made.gpus[0].uuid), config)


def test_one_that_the_driver_takes_anew_and_cannot_start_is_noticed(tmp_path):
    """As after a reset that failed: the entry in /proc is another, and NVML does not count the GPU any more."""
    made, config = host(tmp_path, gpus=2)
    sick = make(str(tmp_path / "sick"), gpus=2, sick=(0,), device_nodes=False)
    library = "libnvidia-ml.so.580.159.04"
    with open(f"{sick.driver_root}{sick.library_directory}/{library}", "rb") as file:
        image = file.read()
    with open(f"{made.driver_root}{made.library_directory}/{library}", "r+b") as file:  # no fact: its directory is
        file.write(image)
    assert chosen(asks(count=1), config) == [made.gpus[0].uuid]
    entry = f"driver/nvidia/gpus/{made.gpus[0].bus_id}/information"
    os.replace(f"{sick.proc_root}/{entry}", f"{made.proc_root}/{entry}")
    assert chosen(asks(count=1), config) == [made.gpus[1].uuid]


def test_mig_devices_that_are_lost_after_the_inventory_was_stored_are_known_by_their_names(tmp_path):
    made, config = host(tmp_path, gpus=2, mig=MIG)
    assert len(chosen(asks("all"), config)) == 4
    lose(made, 0)
    assert chosen(asks("all"), config) == [device.uuid for device in made.gpus[1].mig_devices]


def test_one_that_comes_back_is_noticed(tmp_path):
    made, config = host(tmp_path, gpus=2)
    with open(config_space(made, 0), "rb") as file:
        header = file.read()
    lose(made, 0)
    assert chosen(asks("all"), config) == [made.gpus[1].uuid]
    with open(config_space(made, 0), "r+b") as file:
        file.write(header)
    assert chosen(asks("all"), config) == [gpu.uuid for gpu in made.gpus]


def test_one_that_the_driver_starts_at_last_is_noticed(tmp_path):
    """A driver that is told to try again writes the UUID into /proc; NVML's library is then one that counts it."""
    well = make(str(tmp_path / "well"), device_nodes=False, gpus=2)
    made, config = host(tmp_path, gpus=2, sick=(0,))
    assert chosen(asks("all"), config) == [made.gpus[1].uuid]
    information = f"{made.proc_root}/driver/nvidia/gpus/{made.gpus[0].bus_id}/information"
    with open(f"{well.proc_root}/driver/nvidia/gpus/{made.gpus[0].bus_id}/information") as file:
        text = file.read()
    os.chmod(information, 0o644)
    with open(information, "w") as file:
        file.write(text)
    assert chosen(asks("all"), config) == [gpu.uuid for gpu in made.gpus]


def test_one_of_which_an_old_driver_says_nothing_is_lost(tmp_path):
    made, config = host(tmp_path, gpus=2, sick=(0,))
    information = f"{made.proc_root}/driver/nvidia/gpus/{made.gpus[0].bus_id}/information"
    os.chmod(information, 0o644)
    with open(information, "w"):
        pass
    assert chosen(asks(count=1), config) == chosen(asks("0"), config) == [made.gpus[1].uuid]
    os.unlink(information)
    assert chosen(asks("all"), config) == [made.gpus[1].uuid]
    with pytest.raises(InvalidInput, match="the driver has lost it"):
        chosen(asks(f"0000{made.gpus[0].bus_id}"), config)


def test_one_that_sleeps_is_not_woken_to_be_asked(tmp_path):
    made, config = host(tmp_path, gpus=1)
    lose(made, 0)  # whoever reads this has read too much
    status = f"{made.sys_root}/bus/pci/devices/{made.gpus[0].bus_id}/power/runtime_status"
    os.chmod(status, 0o644)
    with open(status, "w") as file:
        file.write("suspended\n")
    assert facts.silent(config.sys_root, [made.gpus[0].bus_id]) == []
    with open(status, "w") as file:
        file.write("active\n")
    assert facts.silent(config.sys_root, [made.gpus[0].bus_id]) == [made.gpus[0].bus_id]


def test_a_function_whose_vendor_alone_reads_as_ones_is_not_lost(tmp_path):
    """The vendor of a virtual function is all ones by the specification, and its command register is not."""
    made, config = host(tmp_path, gpus=1)
    with open(config_space(made, 0), "r+b") as file:
        file.write(b"\xff" * 4)
    assert facts.silent(config.sys_root, [made.gpus[0].bus_id]) == []


def test_without_nvml_the_order_of_the_bus_stands(tmp_path, monkeypatch):
    made, config = host(tmp_path, gpus=2, lost=(0,))

    def fails(_inventory, _hidden):
        raise HookError("cannot ask NVML", "it hangs", "see dmesg")

    monkeypatch.setattr(nvml, "complete", fails)
    found = discovery.discover(config).inventory
    assert [(gpu.index, bool(gpu.fault)) for gpu in found.gpus] == [(0, True), (1, False)]
    assert chosen(asks(count=1), config) == [made.gpus[1].uuid]


def test_the_agent_of_mesos_that_gave_one_is_told(tmp_path):
    made, config = host(tmp_path, gpus=2, lost=(0,))
    devices = of_nvidia.of(snapshot.load(config).gpus)
    gave = Restriction(minors=frozenset({0, 1}), who="the agent", remedy="ask for `all`")
    for request in (asks("all"), asks(count=1)):
        with pytest.raises(AllocationError, match="which the agent has given this container: the driver has lost it"):
            restricted_to(gave, devices, request)
    assert restricted_to(gave, devices, asks(made.gpus[1].uuid))


def test_one_that_another_holds_is_not_waited_for(tmp_path):
    """A count that only a lost GPU could fill will not be filled by waiting."""
    _, config = host(tmp_path, gpus=2, lost=(0,))
    with pytest.raises(AllocationError) as caught:
        chosen(asks(count=2), config)
    assert not isinstance(caught.value, Busy)


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_the_doctor_says_so(tmp_path, kind):
    made, config = host(tmp_path, gpus=2, **{kind: (0,)})
    looked_at = Host(config=config, config_path=made.config, inventory=snapshot.load(config, detailed=True))
    errors = [finding for finding in doctor.check(looked_at) if finding.severity == ERROR]
    assert len(errors) == 1
    assert errors[0].what.startswith("the driver has lost GPU ")
    assert made.gpus[0].bus_id in errors[0].what or made.gpus[0].uuid in errors[0].what
    first = next(iter(doctor.check(looked_at)))
    assert first.what == "1 GPU: 1 x NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_what_is_shown_and_stored_matches_the_schemas(tmp_path, kind):
    made, config = host(tmp_path, gpus=2, **{kind: (0,)})
    command = [Path(sys.executable).with_name("oci-gpu"), "--config", made.config]
    shown = json.loads(subprocess.run([*command, "info", "--json"], check=True, capture_output=True).stdout)
    for name, document in (
        ("info", shown),
        ("inventory", json.loads(Path(config.state_dir, "inventory.json").read_text())),
    ):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)
    assert [gpu["index"] for gpu in shown["gpus"]] == ([None, 0] if kind == "sick" else [0, 1])
    assert [bool(gpu["fault"]) for gpu in shown["gpus"]] == [True, False]
    table = subprocess.run([*command, "info"], check=True, capture_output=True, text=True).stdout
    assert "error: the driver has lost the GPU at" in table


def test_a_place_that_no_gpu_has_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="are not among 2 GPUs"):
        make(str(tmp_path / "host"), gpus=2, sick=(2,))


@pytest.mark.parametrize("kind", ["sick", "lost"])
def test_a_cdi_specification_does_not_name_it(tmp_path, kind):
    """Neither do other engines give it then."""
    one = (0,)
    made = make(str(tmp_path / "host"), gpus=2, sick=one if kind == "sick" else (), lost=one if kind == "lost" else ())
    program = str(Path(sys.executable).with_name("oci-gpu"))
    command = [program, "--config", made.config, "cdi", "generate", "--format", "json", "--hook-path", "/hook"]
    document = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    nodes = {device["name"]: str(device["containerEdits"]) for device in document["devices"]}
    index = "0" if kind == "sick" else "1"
    assert set(nodes) == {index, made.gpus[1].uuid, "all"}
    assert "/dev/nvidia1" in nodes["all"]
    assert "/dev/nvidia0" not in str(document["devices"])


def cdi_granted(silent, *minors):
    """Return what the hook of a specification with two GPUs makes for a container that an engine gives these."""
    seen = cdi_container.Seen(files=(), products={}, silent=frozenset(silent))
    arguments = cdi_hook.Arguments(driver_version="580.1", gpus=((0, "0000:01:00.0"), (1, "0000:02:00.0")))
    image = Image(libc="glibc", library_directory="/usr/lib64", library_directory_32="", of_vendor=ImageFacts())
    nodes = [f"/dev/nvidia{minor}" for minor in minors]
    return cdi_container.make(arguments, image, nodes, seen, Config())


def test_the_hook_of_a_cdi_specification_made_before_refuses_it():
    assert cdi_granted((), 0).warnings == cdi_granted(("0000:01:00.0",), 1).warnings == ()
    with pytest.raises(DriverError, match=r"the GPU at '0000:01:00\.0': the driver has lost it"):
        cdi_granted(("0000:01:00.0",), 0)
    (warning,) = cdi_granted(("0000:01:00.0",), 0, 1).warnings
    assert "is of no use" in warning
    with pytest.raises(DriverError, match="the driver has lost it"):
        cdi_granted(("0000:01:00.0", "0000:02:00.0"), 0, 1)
