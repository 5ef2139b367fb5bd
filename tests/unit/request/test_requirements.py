"""Requirements against hosts: per GPU, lazily, and with a message that says what the host has."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.errors import DriverError, InvalidInput
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.devices.nvidia.requirements import Host, check, needs_nvml, unsatisfied

HOST = Host(driver="550.54.15", cuda="12.4", arch="8.0", brand="tesla")


def gpu(index, architecture="8.0", brand="tesla"):
    return Gpu(index=index, uuid=f"GPU-{index}", minor=index, bus_id="", architecture=architecture, brand=brand)


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        (
            "cuda>=13 ,",
            "unsatisfied condition: cuda>=13, please update your driver to a newer version, or use an earlier",
        ),
        (" cuda>=13", "unsatisfied condition: "),
        ("Cuda>=13", "unsatisfied condition: Cuda>=13"),
        ("cuda>=.12", "invalid expression"),
        ("cuda>=18446744073709551615", "invalid expression"),
        ("cuda>=12." + "9" * 5000, "invalid expression"),
        ("cuda<" + "0" * 5000 + "12.4", "invalid expression"),  # false, and longer than the reference keeps
        ("brand<tesla", "invalid expression"),
        ("=12", "invalid expression"),
        ("cuda==12.4", "invalid expression"),
        ("cuda>", "invalid expression"),
        ("arch>=8.0.0.1", "unsatisfied condition: arch>=8.0.0.1"),
    ],
)
def test_what_does_not_hold(requirement, message):
    assert str(unsatisfied(requirement, HOST)).startswith(message)


@pytest.mark.parametrize(
    "requirement",
    [
        "",
        " ",
        ",",
        "cuda!13",
        "cuda!=13",
        "cuda>=12.4.0.0",
        "cuda=012.04",
        "cuda<=12.4",
        "DRIVER>=550,Brand=TESLA",
        "cuda>=11 =",
    ],
)
def test_what_holds(requirement):
    assert unsatisfied(requirement, HOST) is None


def test_every_selected_gpu_is_checked():
    with pytest.raises(DriverError, match=r"unsatisfied condition: arch>=8\.0 .*GPU 1: arch 7\.0"):
        check(["arch>=8.0"], "550", "12.4", [gpu(0), gpu(1, "7.0")])
    check(["arch>=8.0"], "550", "12.4", [])


def test_the_failure_says_what_the_host_has_and_how_to_pass_over():
    with pytest.raises(DriverError, match=r"driver 550, CUDA 12\.4.*NVIDIA_DISABLE_REQUIRE=1"):
        check(["cuda>=99"], "550", "12.4", [])


def test_what_cannot_be_read_is_bad_input():
    with pytest.raises(InvalidInput, match="invalid expression"):
        check(["bogus"], "550", "12.4", [gpu(0)])


def test_unknown_facts_matter_only_where_the_answer_depends_on_them():
    check(["driver>=500 cuda>=13"], "550", "", [gpu(0, "", "")])
    check(["cuda>=12 brand=tesla"], "550", "12.4", [gpu(0, "", "")])
    with pytest.raises(DriverError, match="the driver's CUDA version is not known"):
        check(["cuda>=12"], "550", "", [])
    with pytest.raises(DriverError, match="the GPU's brand is not known"):
        check(["cuda>=13 brand=tesla"], "550", "12.4", [gpu(0, "", "")])


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ("driver>=500", False),
        ("", False),
        ("bogus>=1", False),
        ("driver>=5,CUDA>=1", True),
        ("x brand=y", True),
        ("arch", True),
    ],
)
def test_which_requirements_need_nvml(requirement, needed):
    assert needs_nvml([requirement]) is needed
