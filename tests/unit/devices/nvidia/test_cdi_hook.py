"""The arguments of the hook in our CDI specifications."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.formats.ldcache import Entry, flags_for
from oci_gpu_hook.devices.edits import Symlink
from oci_gpu_hook.devices.nvidia import cdi_hook
from oci_gpu_hook.devices.nvidia.model import Gpu, RequestInventory
from oci_gpu_hook.oci.image import MACHINE


def entry(path, bits):
    name = path.rpartition("/")[2]
    return Entry(name=name, path=path, flags=flags_for(MACHINE, bits), os_version=0, hwcap=0, subdirectory="")


def test_what_is_written_is_read():
    gpus = (Gpu(index=0, uuid="GPU-a", minor=3, bus_id="00000000:1b:00.0", proc_name="0000:1b:00.0"),)
    inventory = RequestInventory(
        wanted=frozenset(), driver_version="580.1", cuda_version="13.0", gpus=gpus, libraries=(), files=(), nodes=()
    )
    links = (Symlink(path="/usr/lib/libcuda.so", target="libcuda.so.1"),)
    libraries = (entry("/usr/lib64/libcuda.so.1", 64), entry("/usr/lib/libcuda.so.1", 32))
    words = cdi_hook.arguments(inventory, links, libraries)
    assert (words[0], words[-1]) == (cdi_hook.FLAG, cdi_hook.STAGE)
    assert cdi_hook.parse(words[1:-1]) == cdi_hook.Arguments(
        driver_version="580.1", cuda_version="13.0", gpus=((3, "0000:1b:00.0"),), links=links, libraries=libraries
    )


@pytest.mark.parametrize(
    "word",
    ["--link=a", "--link=a::b", "--link=::/b", "--link=a::/b/", "--library=a", "--library32=", "--gpu=1", "--gpu=x=y",
     "--gpu=1=..", "--gpu=1=a/b", "--gpu=99999999=a", "--frobnicate", "", "--link=a::/b\0"],
)  # fmt: skip
def test_words_that_mean_nothing_are_refused(word):
    with pytest.raises(InvalidInput, match=r"argument .* of the CDI hook"):
        cdi_hook.parse([word])
