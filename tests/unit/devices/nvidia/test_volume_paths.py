"""Paths of the volume that a container asks for: what cannot be one is refused in words."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices.nvidia.volume import asked


@pytest.mark.parametrize(
    "text",
    [
        "usr", "/", "//", "/a/../b", "/a\0b", "/\ud800", "/a/\udfff\ud800",
        "/a" * (limits.VOLUME_LEVELS + 1), "/a" * 2040, "/" + "é" * limits.VOLUME_PATH,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_cannot_be_a_path(text):
    with pytest.raises(InvalidInput):
        asked("OCI_GPU_VOLUME", text)


@pytest.mark.parametrize("text", ["/opt/driver", "//opt//driver/", "/opt/./driver", "/\udcff/x"], ids=ascii)
def test_what_can(text):
    assert asked("OCI_GPU_VOLUME", text).startswith("/")


def test_as_deep_as_allowed():
    assert asked("OCI_GPU_VOLUME", "/a" * limits.VOLUME_LEVELS) == "/a" * limits.VOLUME_LEVELS
