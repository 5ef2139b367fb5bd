"""A simulated host as a whole, made without root; nodes and containers are in tests/runtime/test_simulate_host.py."""

from __future__ import annotations

import json
import os
import platform
import stat
import subprocess
import sys
import tomllib

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from oci_gpu_hook.admin.simulate import build, driver_root, replace
from oci_gpu_hook.admin.simulate.driver_files import Driver
from oci_gpu_hook.admin.simulate.host import upgrade
from oci_gpu_hook.base.errors import InvalidInput, SimulationError
from tests.unit.admin.simulate.hosts import plain

MACHINE = platform.machine()


def below(directory):
    """Return relative path → content, link target or kind, of everything below a directory."""
    found = {}
    for folder, directories, files in os.walk(directory):
        for name in directories + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                value = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    value = file.read()
            else:
                value = stat.S_IFMT(mode)
            found[os.path.relpath(path, directory)] = value
    return found


def libraries(root, directory):
    """Return the paths of all shared objects of a driver below a library directory, links left out."""
    for folder, _, files in os.walk(root + directory):
        for name in files:
            path = os.path.join(folder, name)
            if ".so" in name and not os.path.islink(path):
                yield path


def tags(path, kind):
    with open(path, "rb") as file:
        (dynamic,) = (s for s in ELFFile(file).iter_segments() if isinstance(s, DynamicSegment))
        return [getattr(tag, kind) for tag in dynamic.iter_tags(f"DT_{kind.upper()}")]


class TestFiles:
    def test_config_points_to_everything(self, eight):
        with open(eight.config, "rb") as file:
            config = tomllib.load(file)
        assert config["driver"] == {
            "root": eight.driver_root,
            "dev-root": eight.dev_root,
            "proc-root": eight.proc_root,
            "sys-root": eight.sys_root,
        }
        assert all(os.path.isdir(path) for path in (*config["driver"].values(), config["state"]["dir"]))

    def test_names_are_those_of_the_driver(self, eight):
        names = set(os.listdir(eight.driver_root + eight.library_directory))
        assert {"libcuda.so.580.159.04", "libcuda.so.1", "libcuda.so", "libnvidia-nvvm70.so.4", "gbm", "vdpau"} <= names
        for name in ("nvidia-smi", "nvidia-persistenced", "nvidia-cuda-mps-server", "nvidia-imex"):
            assert os.access(f"{eight.driver_root}/usr/bin/{name}", os.X_OK)
        firmware = f"{eight.driver_root}/lib/firmware/nvidia/580.159.04"
        assert sorted(os.listdir(firmware)) == ["gsp_ga10x.bin", "gsp_tu10x.bin"]

    def test_every_library_loads(self, eight):
        folder = eight.driver_root + eight.library_directory
        paths = list(libraries(eight.driver_root, eight.library_directory))
        x_modules = 2
        assert len(paths) == len(Driver(version="580.159.04", machine=MACHINE).libraries()) + x_modules
        code = "import ctypes, sys\nfor path in sys.argv[1:]: ctypes.CDLL(path)"
        environment = {**os.environ, "LD_LIBRARY_PATH": folder}
        run = subprocess.run(
            [sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr

    def test_sonames_and_links(self, eight):
        folder = eight.driver_root + eight.library_directory
        driver = Driver(version="580.159.04", machine=MACHINE)
        for library in driver.libraries().values():
            path = os.path.join(folder, library.directory, driver.file_name(library))
            soname = driver.soname(library)
            assert tags(path, "soname") == ([soname] if soname else [])
            if soname:
                link = os.path.join(os.path.dirname(path), soname)
                assert os.path.realpath(link) == os.path.realpath(path)

    @pytest.mark.skipif(MACHINE != "x86_64", reason="only x86_64 drivers have 32-bit libraries")
    def test_32_bit_libraries_are_i386(self, eight):
        paths = list(libraries(eight.driver_root, eight.library_directory32))
        assert any(path.endswith("/libcuda.so.580.159.04") for path in paths)
        for path in paths:
            with open(path, "rb") as file:
                assert ELFFile(file)["e_machine"] == "EM_386"

    @pytest.mark.parametrize("layout", ["debian", "lib64", "usr-local-nvidia"])
    def test_ldconfig_lists_the_libraries_in_every_layout(self, layout, tmp_path):
        simulated = plain(tmp_path / "host", layout=layout)
        ldconfig = next(path for path in driver_root.LDCONFIG if os.access(path, os.X_OK))
        cache = f"{simulated.driver_root}/etc/ld.so.cache"
        listed = subprocess.run([ldconfig, "-p", "-C", cache], capture_output=True, text=True, check=True).stdout
        assert f"=> {simulated.library_directory}/libcuda.so.1\n" in listed
        assert f"=> {simulated.library_directory}/libnvidia-ml.so.1\n" in listed
        if MACHINE == "x86_64":
            assert f"=> {simulated.library_directory32}/libcuda.so.1\n" in listed

    def test_an_older_driver_has_its_own_files(self, tmp_path):
        simulated = plain(tmp_path / "host", driver_version="535.261.03")
        names = os.listdir(simulated.driver_root + simulated.library_directory)
        assert "libnvidia-gpucomp.so.535.261.03" not in names
        assert "libnvidia-vulkan-producer.so.535.261.03" in names

    def test_sysfs_has_the_topology(self, eight):
        pci = f"{eight.sys_root}/bus/pci/devices"
        assert sorted(os.listdir(pci)) == [gpu.bus_id for gpu in eight.gpus]
        for gpu in eight.gpus:
            with open(f"{pci}/{gpu.bus_id}/numa_node") as file:
                assert int(file.read()) == gpu.numa_node
            card, render = eight.numbers.drm(gpu.index)
            assert sorted(os.listdir(f"{pci}/{gpu.bus_id}/drm")) == [card, render]
            assert os.path.samefile(f"{eight.sys_root}/class/drm/{card}/device", f"{pci}/{gpu.bus_id}")
        switches = [os.path.realpath(f"{pci}/{gpu.bus_id}/../..") for gpu in eight.gpus]
        assert len(set(switches)) == 4
        assert switches[0] == switches[1]

    def test_capability_files_agree_with_the_table(self, mig):
        with open(f"{mig.proc_root}/driver/nvidia-caps/mig-minors") as file:
            table = dict(line.split() for line in file)
        for gpu in mig.gpus:
            for device in gpu.mig_devices:
                name = f"gi{device.gpu_instance}/ci0/access"
                with open(f"{mig.proc_root}/driver/nvidia/capabilities/gpu{gpu.minor}/mig/{name}") as file:
                    assert file.readline() == f"DeviceFileMinor: {table[f'gpu{gpu.minor}/{name}']}\n"


class TestReplacing:
    def test_a_second_run_gives_the_same_host(self, tmp_path):
        plain(tmp_path / "host", gpus=2, mig=True)
        first = below(tmp_path / "host")
        plain(tmp_path / "host", gpus=2, mig=True)
        second = below(tmp_path / "host")
        for cache in ("driver/etc/ld.so.cache",):  # ldconfig's own; its order of equal entries is its business
            first.pop(cache), second.pop(cache)
        assert first == second

    def test_the_state_of_the_hook_stays_and_nothing_of_the_old_host(self, tmp_path):
        simulated = plain(tmp_path / "host", gpus=2)
        with open(f"{simulated.state_dir}/leases.json", "w") as file:
            file.write("kept")
        again = plain(tmp_path / "host", driver_version="550.54.15")
        with open(f"{again.state_dir}/leases.json") as file:
            assert file.read() == "kept"
        assert not [name for name in below(tmp_path / "host") if "580" in name]
        assert sorted(os.listdir(tmp_path / "host")) == sorted([*replace.PARTS, "kmsg", "state"])  # the log goes on

    def test_upgrade_keeps_gpus_and_settings(self, tmp_path):
        before = plain(tmp_path / "host", gpus=2, minors=(1, 0), mig=("1g.10gb",), layout="lib64", seed=7)
        after = upgrade(str(tmp_path / "host"), "590.48.01")
        assert after.gpus == before.gpus
        assert after.settings.layout == "lib64"
        assert (after.settings.driver_version, after.settings.cuda) == ("590.48.01", "13.1")

    @pytest.mark.parametrize(("side", "loaded"), [("libraries", "580.159.04"), ("kernel", "590.48.01")])
    def test_one_side_alone_can_be_upgraded(self, tmp_path, side, loaded):
        plain(tmp_path / "host")
        upgrade(str(tmp_path / "host"), "590.48.01", libraries=side == "libraries", kernel=side == "kernel")
        with open(tmp_path / "host/proc/driver/nvidia/version") as file:
            assert f"  {loaded}  " in file.readline()
        installed = os.listdir(tmp_path / "host/driver/usr/lib/firmware/nvidia")
        assert installed == ["590.48.01" if side == "libraries" else "580.159.04"]

    def test_upgrade_of_no_host_is_refused(self, tmp_path):
        with pytest.raises(InvalidInput, match="is not a simulated host"):
            upgrade(str(tmp_path), "590.48.01")

    def test_a_directory_with_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "precious").write_text("mine")
        with pytest.raises(SimulationError, match="is not empty"):
            plain(tmp_path)
        assert os.listdir(tmp_path) == ["precious"]

    def test_a_marker_that_says_nothing_does_not_make_it_ours(self, tmp_path):
        (tmp_path / "simulation.json").write_text("{}")
        with pytest.raises(SimulationError, match="is not empty"):
            plain(tmp_path)

    def test_a_file_is_no_directory(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(SimulationError, match="is not a directory"):
            plain(tmp_path / "file")

    def test_a_directory_in_which_others_write_is_none_for_root(self, tmp_path):
        """What is made there is given modes and owners by its name, which they could lead anywhere."""
        tmp_path.chmod(0o777)
        with pytest.raises(SimulationError, match="others can write to it"):
            plain(tmp_path)
        assert os.listdir(tmp_path) == []

    def test_what_a_killed_run_left_is_cleared(self, tmp_path):
        (tmp_path / ".new/driver").mkdir(parents=True)
        plain(tmp_path)
        assert not (tmp_path / ".new").exists()

    def test_a_failure_leaves_the_old_host_and_makes_no_new_one(self, tmp_path, monkeypatch):
        plain(tmp_path / "host")
        before = below(tmp_path / "host")
        monkeypatch.setenv("PATH", "")
        with pytest.raises(SimulationError, match="C compiler: none of cc, gcc, clang is on PATH; install one"):
            plain(tmp_path / "host", gpus=2)
        assert below(tmp_path / "host") == before
        with pytest.raises(SimulationError, match="C compiler"):
            plain(tmp_path / "another")
        assert os.listdir(tmp_path) == ["host"]

    def test_two_at_once_do_not_mix(self, tmp_path):
        import fcntl

        plain(tmp_path)
        fd = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            with pytest.raises(SimulationError, match="another oci-gpu simulate is at work"):
                plain(tmp_path)
        finally:
            os.close(fd)


class TestRefusals:
    def test_a_compiler_that_cannot_link_is_named_with_what_it_said(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build, "LIBRARY_FLAGS", ("-shared", "-fPIC", "-lthere-is-no-such-library"))
        with pytest.raises(SimulationError, match=r"libnvidia-ml\.so\.1: .*there-is-no-such-library"):
            plain(tmp_path / "host")

    def test_no_static_libc_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr(build, "STATIC_COMPILERS", ("false",))
        with pytest.raises(SimulationError, match=r"nvidia-smi\.c: .*musl-tools"):
            plain(tmp_path / "host")

    def test_no_ldconfig_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr(driver_root, "LDCONFIG", ("/nonexistent/ldconfig",))
        with pytest.raises(SimulationError, match="ldconfig is not installed"):
            plain(tmp_path / "host")

    def test_another_machine(self, tmp_path, monkeypatch):
        monkeypatch.setattr(platform, "machine", lambda: "sparc64")
        with pytest.raises(SimulationError, match="'sparc64' is not supported"):
            plain(tmp_path / "host")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"product": "GTX 970"}, "'GTX 970' is not known; choose one of A100-40GB"),
            ({"layout": "gentoo"}, "choose one of debian"),
            ({"driver_version": "latest"}, "as NVIDIA writes it"),
            ({"kernel_driver_version": "latest"}, "as NVIDIA writes it"),
            ({"product": "T4", "mig": True}, "cannot be partitioned"),
        ],
    )
    def test_settings_that_make_no_host(self, tmp_path, settings, message):
        with pytest.raises(InvalidInput, match=message):
            plain(tmp_path / "host", **settings)
        assert not os.listdir(tmp_path)

    def test_a_directory_name_that_would_garble_messages(self, tmp_path):
        with pytest.raises(InvalidInput, match="cannot be shown"):
            plain(f"{tmp_path}/a\nb")


def test_sources_compile_without_warnings(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "WARNINGS", ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"))
    plain(tmp_path / "host")


def test_eight_gpus_take_seconds_not_minutes(tmp_path):
    before = sum(os.times()[:4])
    plain(tmp_path / "host", gpus=8, mig=True)
    assert sum(os.times()[:4]) - before < 20  # seconds of CPU, the compiler's too; about one on an idle machine


class TestCommand:
    def run(self, *arguments):
        code = (
            "import argparse, sys; from oci_gpu_hook.admin.cli import simulate; p = argparse.ArgumentParser();"
            "simulate.add_arguments(p); sys.exit(simulate.run(p.parse_args()))"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
        )

    def test_says_what_it_made_and_how_to_use_it(self, tmp_path):
        run = self.run(tmp_path / "host", "--no-device-nodes", "--gpus", 2, "--product", "a100", "--mig")
        assert run.returncode == 0, run.stderr
        lines = run.stdout.splitlines()
        assert lines[0] == f"{tmp_path}/host: driver 580.159.04, CUDA 13.0"
        assert sum(line.startswith("  GPU ") for line in lines) == 2
        assert sum(line.startswith("    MIG ") for line in lines) == 6
        assert lines[-1] == f"Use it with --config {tmp_path}/host/config.toml"

    def test_prints_the_host_as_json(self, tmp_path):
        run = self.run(
            *(tmp_path / "host", "--no-device-nodes", "--json", "--mig-profiles", "1g.10gb, 1g.10gb"),
            *("--driver-version", "550.54.15", "--kernel-driver-version", "550.90", "--cuda", "12.9"),
        )
        document = json.loads(run.stdout)
        assert document["driver"]["version"] == "550.54.15"
        assert document["driver"]["kernelVersion"] == "550.90"
        assert document["driver"]["cudaVersion"] == "12.9"
        assert document["gpus"][0]["busId"] == "00000000:1b:00.0"
        assert [device["gpuInstance"] for device in document["gpus"][0]["migDevices"]] == [7, 8]

    def test_help_names_the_products(self):
        assert "H100, H200, L4, L40S" in " ".join(self.run("--help").stdout.split())
