"""Which family a product is of, and which families have CUDA's forward compatibility."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.devices.nvidia import brands, forward_compatibility
from oci_gpu_hook.devices.nvidia.image_facts import CompatLibrary
from oci_gpu_hook.devices.nvidia.model import Gpu

NAMES = [
    ("NVIDIA GeForce RTX 4090", brands.GEFORCE_RTX, False),
    ("NVIDIA GeForce RTX 3050 Laptop GPU", brands.GEFORCE_RTX, False),
    ("GeForce GTX 1080 Ti", brands.GEFORCE, False),
    ("NVIDIA GeForce MX450", brands.GEFORCE, False),
    ("GeForce GTX TITAN X", brands.GEFORCE, False),
    ("NVIDIA TITAN V", brands.TITAN, False),
    ("TITAN RTX", brands.TITAN_RTX, False),
    ("NVS 510", brands.NVS, False),
    ("Quadro P4000", brands.QUADRO, True),
    ("Quadro RTX 8000", brands.QUADRO_RTX, True),
    ("NVIDIA RTX A6000", brands.NVIDIA_RTX, True),
    ("NVIDIA RTX 6000 Ada Generation", brands.NVIDIA_RTX, True),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", brands.NVIDIA_RTX, True),
    ("Tesla V100-SXM2-16GB", brands.TESLA, True),
    ("NVIDIA A100-SXM4-80GB", brands.NVIDIA, True),
    ("NVIDIA GH200 480GB", brands.NVIDIA, True),
    ("GRID V100D-8C", brands.UNKNOWN, True),
    ("", brands.UNKNOWN, True),
]


def used(name: str, note: str) -> bool:
    path = "/usr/local/cuda/compat/libcuda.so.590.48.01"
    image = (CompatLibrary(path=path, note=note),)
    gpu = Gpu(index=0, uuid="GPU-0", minor=0, bus_id="00000000:00:06.0", name=name)
    user = forward_compatibility.User(gpus=(gpu,))
    return bool(forward_compatibility.decide(image, "580.95.05", "13.0", "hook", user).entries)


@pytest.mark.parametrize(("name", "brand", "served"), NAMES)
def test_families(name, brand, served):
    assert brands.of(name) == brand
    assert used(name, "") == served
    assert used(name, json.dumps({"driver": [580], "device": [1, 2, 7, 8, 9, 10, 11, 12, 13, 14]})) == served


@pytest.mark.parametrize("name", [name for name, brand, served in NAMES if not served])
def test_a_library_that_is_made_for_a_family_is_used_on_it(name):
    assert used(name, json.dumps({"driver": [580], "device": [2, brands.of(name)]}))
    assert not used(name, json.dumps({"driver": [580], "device": "all"}))
