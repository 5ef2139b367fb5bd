"""Asking for devices of other vendors: by CDI names and by count, in annotations and variables, by one policy."""

from __future__ import annotations

from typing import Any

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.request.json_form import to_json
from oci_gpu_hook.request.parse import read
from tests.unit.request.texts import container

POD = {"io.kubernetes.cri.container-type": "container"}


def asked(env=(), annotations=None, config=None, *, privileged=False):
    """Return kind, devices, count and whether it is exclusive, of each request, and the warnings."""
    reading = read(container(env, annotations=annotations or {}, privileged=privileged), config or Config())
    request = reading.request
    parts = () if request is None else (request, *request.beside)
    return [(each.kind, each.devices, each.count, each.exclusive) for each in parts], reading.warnings


def own(**values):
    return {f"io.oci-gpu-hook.{name}": value for name, value in values.items()}


AMD_0 = ("amd.com/gpu", ("0",), None, False)
NIC = ("v.com/nic", ("eth7",), None, False)
GPU_0 = ("nvidia.com/gpu", ("0",), None, False)


@pytest.mark.parametrize(
    ("env", "annotations", "expected"),
    [
        (["OCI_GPU_DEVICES=amd.com/gpu=0"], {}, [AMD_0]),
        ([], own(devices="amd.com/gpu=0"), [AMD_0]),
        ([], {"cdi.k8s.io/x": "amd.com/gpu=0"}, [AMD_0]),
        (["OCI_GPU_DEVICES= amd.com/gpu=0 ,v.com/nic=eth7,amd.com/gpu=0"], {}, [AMD_0, NIC]),
        (["OCI_GPU_DEVICES=v.com/nic=eth7,nvidia.com/gpu=0"], {}, [GPU_0, NIC]),
        (["OCI_GPU_DEVICES=0,v.com/nic=eth7"], {}, [GPU_0, NIC]),
        (["OCI_GPU_DEVICES=0", "OCI_GPU_KIND=amd.com/gpu"], {}, [AMD_0]),
        ([], own(devices="0", kind="amd.com/gpu"), [AMD_0]),
        ([], own(devices="none", kind="amd.com/gpu"), []),
        (["OCI_GPU_DEVICES=amd.com/gpu=0", "NVIDIA_VISIBLE_DEVICES=all"], {}, [AMD_0]),
        (["NVIDIA_VISIBLE_DEVICES=0"], {"cdi.k8s.io/x": "v.com/nic=eth7"}, [GPU_0, NIC]),
        (["NVIDIA_VISIBLE_DEVICES=void"], {"cdi.k8s.io/x": "v.com/nic=eth7"}, [NIC]),
        (
            ["OCI_GPU_DEVICES=amd.com/gpu=0"],
            {"cdi.k8s.io/x": "amd.com/gpu=1"},
            [("amd.com/gpu", ("0", "1"), None, False)],
        ),
        ([], {"cdi.k8s.io/x": "nvidia.com/gpu=0,v.com/nic=eth7"}, [GPU_0, NIC]),
        ([], {"cdi.k8s.io/x": "nvidia.com/pgpu=0"}, [("nvidia.com/pgpu", ("0",), None, False)]),
        (["NVIDIA_VISIBLE_DEVICES=all"], own(devices="amd.com/gpu=0"), [AMD_0]),
    ],
)
def test_by_name(env, annotations, expected):
    assert asked(env, annotations)[0] == expected


@pytest.mark.parametrize(
    ("env", "annotations", "expected"),
    [
        (["OCI_GPU_COUNT=2", "OCI_GPU_KIND=amd.com/gpu"], {}, [("amd.com/gpu", (), 2, False)]),
        ([], own(count="2", kind="amd.com/gpu", exclusive="true"), [("amd.com/gpu", (), 2, True)]),
        (["OCI_GPU_COUNT=2", "OCI_GPU_KIND=nvidia.com/gpu"], {}, [("nvidia.com/gpu", (), 2, False)]),
        (
            ["OCI_GPU_COUNT=2", "OCI_GPU_KIND=amd.com/gpu", "NVIDIA_VISIBLE_DEVICES=all"],
            {},
            [("amd.com/gpu", (), 2, False)],
        ),
        (
            ["OCI_GPU_COUNT=1", "OCI_GPU_KIND=amd.com/gpu", "OCI_GPU_DEVICES=v.com/nic=eth7", "OCI_GPU_EXCLUSIVE=1"],
            {},
            [("amd.com/gpu", (), 1, True), (*NIC[:3], True)],
        ),
        (["OCI_GPU_COUNT=1", "OCI_GPU_DEVICES=amd.com/gpu=all"], {}, [("amd.com/gpu", (), 1, False)]),
        (["OCI_GPU_COUNT=1", "OCI_GPU_DEVICES=amd.com/gpu=0"], {}, [AMD_0]),
        (["OCI_GPU_COUNT=1"], {"cdi.k8s.io/x": "v.com/nic=eth7"}, [("nvidia.com/gpu", (), 1, False), NIC]),
        ([], own(count="2", devices="v.com/nic=eth7", kind="amd.com/gpu"), [("amd.com/gpu", (), 2, False), NIC]),
    ],
)  # fmt: skip
def test_by_count(env, annotations, expected):
    assert asked(env, annotations)[0] == expected


@pytest.mark.parametrize(
    ("env", "match"),
    [
        (["OCI_GPU_KIND=amd", "OCI_GPU_COUNT=1"], "is not a kind of devices"),
        (["OCI_GPU_KIND=amd.com/gpu=0", "OCI_GPU_COUNT=1"], "is not a kind of devices"),
        (["OCI_GPU_KIND=nvidia.com/mig", "OCI_GPU_COUNT=1"], "such devices are counted as nvidia.com/gpu"),
        (["OCI_GPU_KIND=amd.com/gpu", "OCI_GPU_DEVICES=a b"], "cannot be a device of amd.com/gpu"),
        (["OCI_GPU_DEVICES=amd.com/gpu=0,oops"], "cannot be the name of a device"),
        (["OCI_GPU_COUNT=2", "OCI_GPU_DEVICES=amd.com/gpu=0"], "ask by count or by name"),
        ([f"OCI_GPU_DEVICES={','.join(f'v.com/x={number}' for number in range(5000))}"], "lists more than 4096 items"),
    ],
)
def test_what_cannot_be_meant_is_refused(env, match):
    with pytest.raises(InvalidInput, match=match):
        asked(env)


def test_variables_ask_under_the_policy_of_nvidias():
    config = Config(accept_envvar_when_unprivileged=False)
    for env in (["OCI_GPU_DEVICES=amd.com/gpu=0"], ["OCI_GPU_COUNT=1", "OCI_GPU_KIND=amd.com/gpu"]):
        found, warnings = asked(env, config=config)
        assert found == []
        assert "are not given: the container is unprivileged" in warnings[0]
        assert asked(env, config=config, privileged=True)[0]
    assert asked((), own(devices="amd.com/gpu=0"), config)[0] == [AMD_0], "an annotation is whoever's who starts it"
    found, warnings = asked(["OCI_GPU_DEVICES=amd.com/gpu=0"], config=Config(image_may_ask="no"))
    assert found == []
    assert 'image-may-ask is "no"' in warnings[0]


def test_names_of_a_pod_may_be_the_engines():
    def engine_serves(annotations):
        request = read(container(annotations=annotations), Config()).request
        assert request
        return request.engine_serves

    assert engine_serves({"cdi.k8s.io/x": "v.com/nic=eth7", **POD})
    assert not engine_serves({"cdi.k8s.io/x": "v.com/nic=eth7"})
    assert not engine_serves({**own(devices="v.com/nic=eth7"), **POD})
    assert not engine_serves({"cdi.k8s.io/x": "v.com/nic=eth8", **own(devices="v.com/nic=eth7"), **POD})


def test_a_container_may_decline_what_its_pod_asks_for():
    annotations = {**own(devices="amd.com/gpu=0"), **POD}
    assert asked((), annotations)[0] == [AMD_0]
    found, warnings = asked(["NVIDIA_VISIBLE_DEVICES=void"], annotations)
    assert found == []
    assert "is set for the pod and is not read" in warnings[0]


def test_a_variable_that_goes_unread_is_told():
    _, warnings = asked(["OCI_GPU_DEVICES=amd.com/gpu=0"], own(devices="v.com/nic=eth7"))
    assert any("OCI_GPU_DEVICES='amd.com/gpu=0' is not read: annotations go before it" in text for text in warnings)


def test_on_paper():
    request = read(container(["OCI_GPU_DEVICES=amd.com/gpu=0,v.com/nic=eth7"]), Config()).request
    assert request
    document: dict[str, Any] = to_json(request)
    assert (document["kind"], document["devices"]) == ("amd.com/gpu", ["0"])
    (other,) = document["beside"]
    assert (other["kind"], other["devices"]) == ("v.com/nic", ["eth7"])
