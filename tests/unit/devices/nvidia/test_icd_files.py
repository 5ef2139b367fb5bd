"""What files for loaders name: only absolute paths of the driver's own libraries become links."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.devices.nvidia import icd_files
from oci_gpu_hook.devices.nvidia.model import DriverFile, Library

LIBRARY = Library(
    host_path="/lib64/libEGL_nvidia.so.580.1", name="libEGL_nvidia.so.580.1", soname="libEGL_nvidia.so.0",
    links=(("libEGL_nvidia.so.0", "libEGL_nvidia.so.580.1"),), capabilities=("graphics",),
)  # fmt: skip
ICD = '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s"}}'


def linked(tmp_path, text, name="10_nvidia.json", library=LIBRARY):
    path = tmp_path / "file"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    file = DriverFile(host_path=str(path), container_path=f"/etc/{name}", capabilities=("graphics",))
    return [(link.path, link.target) for link in icd_files.links([file], [library])]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ICD % "/nix/store/x/lib/libEGL_nvidia.so.0", "10_nvidia.json"),
        ('{"layer": {"library_path": "/nix/store/x/lib/libEGL_nvidia.so.0"}}', "nvidia_layers.json"),
        ("/nix/store/x/lib/libEGL_nvidia.so.0\n", "nvidia.icd"),
    ],
)
def test_an_absolute_path(tmp_path, text, name):
    assert linked(tmp_path, text, name) == [("/nix/store/x/lib/libEGL_nvidia.so.0", "libEGL_nvidia.so.0")]


@pytest.mark.parametrize(
    "text",
    [
        ICD % "libEGL_nvidia.so.0",
        ICD % "lib/libEGL_nvidia.so.0",
        ICD % "/etc/shadow",
        ICD % "/a/../libEGL_nvidia.so.0",
        ICD % "/a/b/",
        '{"ICD": {"library_path": 7}}',
        '{"ICD": ["/x/libEGL_nvidia.so.0"]}',
        '["/x/libEGL_nvidia.so.0"]',
        "",
        "{",
        b"\xff\xfe",
        " " * limits.ICD_FILE + ICD % "/x/libEGL_nvidia.so.0",
    ],
)
def test_anything_else_is_passed_over(tmp_path, text):
    assert linked(tmp_path, text) == []


def test_a_plug_in_and_a_32_bit_library_are_not_where_the_path_would_lead(tmp_path):
    text = ICD % "/x/libEGL_nvidia.so.0"
    assert linked(tmp_path, text, library=LIBRARY.replace(directory="vdpau")) == []
    assert linked(tmp_path, text, library=LIBRARY.replace(bits=32)) == []
