"""The parts of a simulated host that need neither compiler nor root: what GPUs, what numbers, what texts, what ELF."""

from __future__ import annotations

import ctypes
import io
import platform
import re
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from oci_gpu_hook.admin.simulate import elf, elf_parts, nodes, procfs, products
from oci_gpu_hook.admin.simulate.driver_files import Driver
from oci_gpu_hook.admin.simulate.gpus import default_profiles, make_gpus
from oci_gpu_hook.base.errors import InvalidInput

H100 = products.product_named("h100")
T4 = products.product_named("Tesla T4")


def gpus(count=1, product=H100, *, seed=0, minors=None, mig=()):
    return make_gpus(count, product, seed=seed, minors=minors, mig_profiles=mig)


class TestGpus:
    def test_the_same_seed_gives_the_same_uuids_and_another_seed_others(self):
        assert [gpu.uuid for gpu in gpus(8)] == [gpu.uuid for gpu in gpus(8)]
        assert not {gpu.uuid for gpu in gpus(8)} & {gpu.uuid for gpu in gpus(8, seed=1)}
        assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", gpus()[0].uuid)

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 9, 16, 32])
    def test_indices_follow_pci_order_and_addresses_are_distinct(self, count):
        bus_ids = [gpu.bus_id for gpu in gpus(count)]
        assert len(set(bus_ids)) == count
        assert bus_ids == sorted(bus_ids)

    def test_neighbours_are_linked_in_pairs(self):
        assert [gpu.peer for gpu in gpus(8)] == [1, 0, 3, 2, 5, 4, 7, 6]
        assert [gpu.peer for gpu in gpus(3)] == [1, 0, None]
        assert [gpu.peer for gpu in gpus(2, T4)] == [None, None]

    def test_more_than_two_gpus_are_spread_over_both_numa_nodes(self):
        assert [gpu.numa_node for gpu in gpus(2)] == [0, 0]
        assert [gpu.numa_node for gpu in gpus(4)] == [0, 0, 1, 1]

    def test_minors_may_differ_from_indices(self):
        assert [gpu.minor for gpu in gpus(3, minors=(2, 0, 1))] == [2, 0, 1]

    @pytest.mark.parametrize("minors", [(0,), (0, 0), (0, 32), (-1, 0)])
    def test_minors_that_do_not_fit_are_refused(self, minors):
        with pytest.raises(InvalidInput, match="minors"):
            gpus(2, minors=minors)

    @pytest.mark.parametrize("count", [-1, 33])
    def test_a_number_of_gpus_that_no_driver_serves_is_refused(self, count):
        with pytest.raises(InvalidInput, match="0 to 32"):
            gpus(count)


class TestMig:
    def test_instances_have_the_ids_of_their_place(self):
        # As NVIDIA's MIG user guide shows `nvidia-smi mig -lgi`: 4g at 0:4 is GI 1, 2g at 4:2 GI 5, 1g at 6:1 GI 13.
        (gpu,) = gpus(mig=("4g.40gb", "2g.20gb", "1g.10gb"))
        assert [(device.gpu_instance, device.start) for device in gpu.mig_devices] == [(1, 0), (5, 4), (13, 6)]

    def test_capabilities_have_the_minors_of_the_drivers_table(self):
        first, second = gpus(2, minors=(1, 0), mig=("7g.80gb",))
        table = dict(line.split() for line in procfs.mig_minors_text().splitlines())
        assert str(first.mig_devices[0].gpu_instance_minor) == table["gpu1/gi0/access"]
        assert str(second.mig_devices[0].compute_instance_minor) == table["gpu0/gi0/ci0/access"]

    def test_every_product_with_mig_takes_its_default_partition(self):
        with_mig = [product for product in products.PRODUCTS.values() if product.mig_profiles]
        assert with_mig
        for product in with_mig:
            (gpu,) = gpus(product=product, mig=default_profiles(product))
            assert len({device.profile.name for device in gpu.mig_devices}) == 3

    def test_seven_small_instances_fit_and_no_eighth(self):
        assert len(gpus(mig=("1g.10gb",) * 7)[0].mig_devices) == 7
        with pytest.raises(InvalidInput, match=r"no room is left for '1g\.10gb'"):
            gpus(mig=("1g.10gb",) * 8)

    def test_an_unknown_profile_is_refused_with_those_there_are(self):
        with pytest.raises(InvalidInput, match=r"has no '1g.5gb'; its profiles are: 1g.10gb"):
            gpus(mig=("1g.5gb",))

    def test_a_product_without_mig_is_refused(self):
        with pytest.raises(InvalidInput, match="cannot be partitioned"):
            default_profiles(T4)


class TestVersions:
    @pytest.mark.parametrize("version", ["", "580", "580.", "580.x", "58x.1", "580.1.2.3", "449.9", "580.159.04\n"])
    def test_what_is_no_driver_version_is_refused(self, version):
        with pytest.raises(InvalidInput, match="driver version"):
            products.driver_branch(version)

    @pytest.mark.parametrize(("version", "cuda"), [("580.159.04", "13.0"), ("550.54", "12.4"), ("583.1", "13.0")])
    def test_cuda_version_follows_from_the_branch(self, version, cuda):
        assert products.cuda_version(products.driver_branch(version), None) == cuda

    @pytest.mark.parametrize("version", ["13", "13.", "a.b", "13.0.1"])
    def test_what_is_no_cuda_version_is_refused(self, version):
        with pytest.raises(InvalidInput, match="CUDA version"):
            products.cuda_version(580, version)

    def test_libraries_come_and_go_with_the_branch(self):
        def stems(version):
            return set(Driver(version=version, machine="x86_64").libraries())

        assert "libnvidia-gpucomp" in stems("580.159.04") - stems("535.261.03")
        assert "libnvidia-vulkan-producer" in stems("535.261.03") - stems("580.159.04")


class TestTexts:
    def test_version_in_the_words_of_the_open_modules(self):
        text = procfs.version_text("580.159.04", "x86_64", open_modules=True)
        assert text.startswith("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (")

    def test_version_in_the_words_of_the_closed_modules(self):
        text = procfs.version_text("535.261.03", "x86_64", open_modules=False)
        assert text.startswith("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  ")

    def test_params_has_the_line_that_tools_change(self):
        assert "\nModifyDeviceFiles: 1\n" in procfs.params_text(580)
        assert 'CoherentGPUMemoryMode: ""' in procfs.params_text(580)
        assert "CoherentGPUMemoryMode" not in procfs.params_text(570)

    def test_information_has_the_fields_of_a_real_one(self):
        (gpu,) = gpus(minors=(5,))
        fields = dict(line.split(":", 1) for line in procfs.information_text(gpu, "580.159.04").splitlines())
        assert fields["Model"] == " \t\t NVIDIA H100 80GB HBM3"
        assert fields["GPU UUID"] == f" \t {gpu.uuid}"
        assert fields["Bus Location"] == " \t 0000:1b:00.0"
        assert fields["Device Minor"] == " \t 5"

    def test_the_mig_table_is_whole(self):
        lines = procfs.mig_minors_text().splitlines()
        assert len(lines) == 2 + 32 * 15 * 9
        assert lines[:4] == ["config 1", "monitor 2", "gpu0/gi0/access 3", "gpu0/gi0/ci0/access 4"]
        assert lines[-1] == "gpu31/gi14/ci7/access 4322"


class TestNumbers:
    def test_numbers_that_this_machine_uses_are_left_alone(self, tmp_path):
        (tmp_path / "devices").write_text("Character devices:\n 10 misc\n510 busy\n235 nvidia-caps\n\nBlock devices:\n")
        (tmp_path / "misc").write_text("122 rdma_cm\n")
        for name in ("card0", "card1", "renderD128", "card1-DP-1", "version"):
            (tmp_path / "drm" / name).mkdir(parents=True)
        numbers = nodes.free_numbers(str(tmp_path), str(tmp_path / "drm"))
        assert {numbers.major("nvidia-uvm"), numbers.major("nvidia-caps")}.isdisjoint({510, 235})
        assert len({major for _, major in numbers.majors}) == len(numbers.majors)
        assert numbers.drm(0) == ("card2", "renderD129")
        assert numbers.rdma_cm_minor != 122

    def test_devices_lists_the_majors_of_the_nodes(self, tmp_path):
        numbers = nodes.free_numbers(str(tmp_path), str(tmp_path))
        text = procfs.devices_text(numbers).partition("\n\nBlock")[0]
        listed = {int(line.split()[0]) for line in text.splitlines()[1:]}
        assert {node.major for node in nodes.host_nodes(gpus(2, mig=("7g.80gb",)), numbers)} <= listed


@pytest.mark.parametrize("machine", elf_parts.MACHINES)
def test_images_have_what_was_asked_for(machine):
    note = elf_parts.Note(section=".note.x", owner="GNU", type=1, description=b"12345")
    image = elf.shared_object(machine, "libx.so.1", needed=["liby.so.2"], exports=["f", "g", "h"], notes=(note, note))
    file = ELFFile(io.BytesIO(image))
    assert file.elfclass == elf_parts.MACHINES[machine].bits
    dynamic: Any
    (dynamic,) = (segment for segment in file.iter_segments() if isinstance(segment, DynamicSegment))
    assert [tag.soname for tag in dynamic.iter_tags("DT_SONAME")] == ["libx.so.1"]
    assert [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")] == ["liby.so.2"]
    assert [symbol.name for symbol in dynamic.iter_symbols()] == ["", "f", "g", "h"]
    segments: Any = file.iter_segments("PT_NOTE")
    notes = [note for segment in segments for note in segment.iter_notes()]
    assert [(note["n_name"], note["n_descdata"]) for note in notes] == [("GNU", b"12345")] * 2
    assert {s["p_align"] for s in file.iter_segments("PT_LOAD")} == {elf_parts.MACHINES[machine].page}


def test_an_image_without_soname_has_none():
    (dynamic,) = (
        segment
        for segment in ELFFile(io.BytesIO(elf.shared_object("x86_64"))).iter_segments()
        if isinstance(segment, DynamicSegment)
    )
    assert not list(dynamic.iter_tags("DT_SONAME"))


@pytest.mark.skipif(platform.machine() not in elf_parts.MACHINES, reason="no image for this machine")
def test_the_loader_finds_every_symbol(tmp_path):
    names = [f"function_{number}" for number in range(40)]
    path = tmp_path / "libx.so"
    path.write_bytes(elf.shared_object(platform.machine(), "libx.so.1", exports=names))
    library = ctypes.CDLL(str(path))
    assert [getattr(library, name)(1) for name in names] == [0] * 40
    with pytest.raises(AttributeError):
        library.function_40  # noqa: B018
