"""Parts of GPUs that containers ask for: `memory-limit` and `cores`, by annotation and by variable."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request import json_form, parse, prefilter
from oci_gpu_hook.request.model import name_of

GIB = 1 << 30
SCHEMA = Path(__file__).parents[3] / "schemas" / "request.schema.json"
POD = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "train",
    "io.kubernetes.cri.sandbox-name": "pod",
    "io.kubernetes.cri.sandbox-namespace": "default",
}


def read(*env, annotations=None, config=None, privileged=False):
    container = Container(
        id="a", pid=0, bundle="/bundle", rootfs="/bundle/rootfs", root_readonly=False, env=env, mounts=(),
        annotations=annotations or {}, privileged=privileged, uid=0, gid=0, namespaces=(), uid_mappings=(),
        gid_mappings=(), cgroups_path="", device_rules=(),
    )  # fmt: skip
    return parse.read(container, config or Config())


def asked(*env, **more):
    reading = read(*env, **more)
    request = reading.request
    assert request
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(json_form.to_json(request), schema)
    assert prefilter.may_ask("".join(env).encode() + json.dumps(more.get("annotations")).encode(), b"")
    return request.devices, request.count, request.memory_limit, request.cores


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (("OCI_GPU_MEMORY_LIMIT=8GiB",), ((), 1, 8 * GIB, 0)),
        (("OCI_GPU_CORES=25%",), ((), 1, 0, 25)),
        (("OCI_GPU_CORES=25", "OCI_GPU_MEMORY_LIMIT= 8192MiB "), ((), 1, 8 * GIB, 25)),
        (("OCI_GPU_MEMORY_LIMIT=8Gi", "OCI_GPU_COUNT=2"), ((), 2, 8 * GIB, 0)),
        (("OCI_GPU_MEMORY_LIMIT=8GiB", "NVIDIA_VISIBLE_DEVICES=1,0"), (("1", "0"), None, 8 * GIB, 0)),
        (("OCI_GPU_MEMORY_LIMIT=8GiB", "NVIDIA_VISIBLE_DEVICES=all"), (("all",), None, 8 * GIB, 0)),
        (("OCI_GPU_MEMORY_LIMIT=8GiB", "OCI_GPU_COUNT=1", "NVIDIA_VISIBLE_DEVICES=all"), ((), 1, 8 * GIB, 0)),
        (("OCI_GPU_MEMORY_LIMIT=8GiB", "OCI_GPU_MEMORY=40GiB", "OCI_GPU_COUNT=1"), ((), 1, 8 * GIB, 0)),
        (("OCI_GPU_MEMORY_LIMIT=", "NVIDIA_VISIBLE_DEVICES=0"), (("0",), None, 0, 0)),
    ],
)
def test_a_part_by_variables(env, expected):
    assert asked(*env) == expected


@pytest.mark.parametrize(
    ("annotations", "env", "expected"),
    [
        ({"memory-limit": "8GiB", "cores": "50%"}, (), ((), 1, 8 * GIB, 50)),
        ({"memory-limit": "8GiB"}, ("OCI_GPU_MEMORY_LIMIT=1GiB",), ((), 1, 8 * GIB, 0)),
        ({"memory-limit": "8GiB", "count": "2"}, (), ((), 2, 8 * GIB, 0)),
        ({"memory-limit": "8GiB", "devices": "0,1"}, (), (("0", "1"), None, 8 * GIB, 0)),
        ({"memory-limit": "8GiB"}, ("NVIDIA_VISIBLE_DEVICES=3",), (("3",), None, 8 * GIB, 0)),
    ],
)
def test_a_part_by_annotations(annotations, env, expected):
    named = {f"io.oci-gpu-hook.{name}": text for name, text in annotations.items()}
    assert asked(*env, annotations=named) == expected


def test_in_a_pod_each_container_asks_for_its_own():
    of_pod = POD | {"io.oci-gpu-hook.memory-limit": "8GiB"}
    assert asked(annotations=of_pod) == ((), 1, 8 * GIB, 0)
    assert asked(annotations=of_pod | {"io.oci-gpu-hook.memory-limit.train": "2GiB"}) == ((), 1, 2 * GIB, 0)
    for said in ("void", ""):
        assert read(f"NVIDIA_VISIBLE_DEVICES={said}", annotations=of_pod).request is None
    own = POD | {"io.oci-gpu-hook.memory-limit.train": "2GiB"}
    assert asked("NVIDIA_VISIBLE_DEVICES=", annotations=own) == ((), 1, 2 * GIB, 0)
    other = POD | {"io.oci-gpu-hook.memory-limit.proxy": "2GiB"}
    assert read(annotations=other).request is None


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("OCI_GPU_MEMORY_LIMIT=8", "'8': is 8 bytes, less than any program needs; write a unit, such as 8GiB"),
        ("OCI_GPU_MEMORY_LIMIT=0", "is 0 bytes"),
        ("OCI_GPU_MEMORY_LIMIT=8 gigs", "is not an amount of memory; write a whole number and a unit"),
        ("OCI_GPU_MEMORY_LIMIT=-1GiB", "is not an amount"),
        ("OCI_GPU_MEMORY_LIMIT=0.5GiB", "is not an amount"),
        ("OCI_GPU_CORES=0", "write a percentage from 1% to 100%, such as 25%"),
        ("OCI_GPU_CORES=101%", "write a percentage"),
        ("OCI_GPU_CORES=half", "is not a part of a GPU's cores"),
        ("OCI_GPU_CORES=12.5%", "is not a part of a GPU's cores"),
    ],
)
def test_what_is_no_part_is_refused(env, said):
    with pytest.raises(InvalidInput) as error:
        read(env)
    assert said in str(error.value)
    assert read("NVIDIA_VISIBLE_DEVICES=void", env).request is None, "who asks for no GPU is not failed"


@pytest.mark.parametrize(
    ("env", "annotations", "name"),
    [
        (("NVIDIA_VISIBLE_DEVICES=0",), {"io.oci-gpu-hook.memory-limit": "8GiB"}, "io.oci-gpu-hook.wait"),
        (("NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_MEMORY_LIMIT=8GiB"), {}, "OCI_GPU_WAIT"),
        ((), {"io.oci-gpu-hook.cores": "5"}, "io.oci-gpu-hook.wait"),
    ],
)
def test_refusals_name_what_the_part_was_asked_by(env, annotations, name):
    """Not what the devices were named by, which may be of another place, and be passed over for this one."""
    request = read(*env, annotations=annotations).request
    assert request
    assert name_of("wait", request) == name


def test_a_part_and_the_whole_exclude_each_other():
    with pytest.raises(InvalidInput, match="OCI_GPU_CORES='25%': asks for a part of a GPU, and OCI_GPU_EXCLUSIVE='1'"):
        read("OCI_GPU_CORES=25%", "OCI_GPU_EXCLUSIVE=1")
    assert asked("OCI_GPU_CORES=25%", "OCI_GPU_EXCLUSIVE=0") == ((), 1, 0, 25)


def test_the_policies_for_variables_hold():
    refusing = Config(accept_envvar_when_unprivileged=False)
    reading = read("OCI_GPU_CORES=25%", config=refusing)
    assert reading.request is None
    assert "asked for by OCI_GPU_CORES are not given: the container is unprivileged" in reading.warnings[0]
    assert read("OCI_GPU_CORES=25%", config=refusing, privileged=True).request
    assert read("OCI_GPU_CORES=25%", config=Config(image_may_ask="no")).request is None


def test_a_part_of_nothing_is_told():
    reading = read("NVIDIA_VISIBLE_DEVICES=void", "OCI_GPU_MEMORY_LIMIT=8GiB")
    assert reading.request is None
    assert any("OCI_GPU_MEMORY_LIMIT" in text and "is not read" in text for text in reading.warnings)
