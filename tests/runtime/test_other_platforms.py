"""WSL 2 and Tegra, as NVIDIA's toolkit serves them: a container looked at from inside, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost
from tests.runtime.vendors import leases, opens

STORE = "/usr/lib/wsl/drivers/nv_dispi.inf_amd64_1b6ce3f2a0c5d947"
OLD_STORE = "/usr/lib/wsl/drivers/nv_dispi.inf_amd64_0a4f7c11b3e9d826"
WSL_LIB = "/usr/lib/wsl/lib"
TEGRA = "/usr/lib/aarch64-linux-gnu/nvidia"
OCI_GPU = Path(sys.executable).with_name("oci-gpu")
USUAL_NODES = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
               "stdout", "tty", "urandom", "zero"}  # fmt: skip


def simulated_host(directory, *options):
    oci_gpu("simulate", directory, *options)
    return SimulatedHost(directory)


@pytest.fixture(scope="module")
def wsl(machine):
    return simulated_host(machine.work / "wsl", "--platform", "wsl2")


@pytest.fixture(scope="module")
def wsl_of_two(machine):
    return simulated_host(machine.work / "wsl-two", "--platform", "wsl2", "--gpus", "2")


@pytest.fixture(scope="module")
def orin(machine):
    return simulated_host(machine.work / "orin", "--platform", "tegra")


@pytest.fixture(scope="module")
def thor(machine):
    """A Tegra with a card beside its own GPU."""
    return simulated_host(machine.work / "thor", "--platform", "tegra,nvidia")


def nodes_of_host(host: SimulatedHost) -> list[str]:
    """Return all nodes of the host, below /dev."""
    found = [path for path in sorted(host.dev.rglob("*")) if stat.S_ISCHR(os.lstat(path).st_mode)]
    return [str(path.relative_to(host.dev)) for path in found]


def all_of(env: str = "all", *more: str) -> tuple[str, ...]:
    return (f"NVIDIA_VISIBLE_DEVICES={env}", *more)


def with_nodes_of_the_image(bundle, host, names):
    """Put nodes with the host's numbers into the image, which then has a /dev of its own."""
    for name in names:
        path = bundle.rootfs / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, os.stat(host.dev / name).st_rdev)
        path.chmod(0o666)
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/dev"]
    return bundle


def test_wsl_gives_its_node_and_the_driver_store(runtime, make_bundle, wsl):
    libraries = {
        "libcuda.so.1": f"{STORE}/libcuda.so.1",
        "libnvidia-ml.so.1": f"{STORE}/libnvidia-ml.so.1",
        "libnvidia-ptxjitcompiler.so.1": f"{STORE}/libnvidia-ptxjitcompiler.so.1",
        "libnvdxgdmal.so.1": f"{STORE}/libnvdxgdmal.so.1", "libdxcore.so": f"{WSL_LIB}/libdxcore.so",
        "libnvidia-opticalflow.so.1": f"{STORE}/libnvidia-opticalflow.so.1",
    }  # fmt: skip
    files = [f"{STORE}/{name}" for name in ("libcuda.so.1.1", "libcuda_loader.so", "libnvidia-ml_loader.so",
                                            "nvcubins.bin", "nvngx.dll", "nvidia-smi")]  # fmt: skip
    asked = [f"dlopen={name}" for name in libraries] + [f"stat={path}" for path in (*files, "/usr/bin/nvidia-smi")]
    asked.append(f"stat={STORE}/libcuda.so")
    bundle = make_bundle(
        *asked, "open=/dev/dxg", "list=/dev", f"stat={OLD_STORE}", f"stat={WSL_LIB}/libd3d12.so", env=all_of(),
        config=wsl.config,
    )  # fmt: skip
    seen = runtime.run(bundle).seen()
    assert {name: seen[f"dlopen={name}"] for name in libraries} == libraries
    assert seen[f"stat={STORE}/libcuda.so"] != "ENOENT"
    assert [seen[f"stat={path}"][:2] for path in files] == ["f "] * len(files)
    assert seen["stat=/usr/bin/nvidia-smi"].startswith(("f ", "l "))
    assert seen["open=/dev/dxg"] == "ENXIO"
    assert set(seen["list=/dev"]) - USUAL_NODES == {"dxg"}
    assert seen[f"stat={OLD_STORE}"] == seen[f"stat={WSL_LIB}/libd3d12.so"] == "ENOENT"
    assert leases(wsl) == []


def test_nvidia_smi_runs_in_a_container_of_wsl(runtime, make_bundle, wsl):
    done = runtime.run(make_bundle(args=("/usr/bin/nvidia-smi", "-L"), env=all_of(), config=wsl.config))
    assert done.stdout.startswith("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-"), done


def test_wsl_refuses_nodes_that_it_did_not_give(runtime, make_bundle, wsl, thor):
    nodes = ("nvidia0", "nvidiactl", "nvmap")
    bundle = make_bundle(*opens("dxg", *nodes), env=all_of(), config=wsl.config)
    seen = runtime.run(with_nodes_of_the_image(bundle, thor, nodes)).seen()
    assert [seen[probe] for probe in opens("dxg", *nodes)] == ["ENXIO", *["EPERM"] * len(nodes)]


def test_a_container_that_asks_for_none_gets_no_node(runtime, make_bundle, wsl, orin):
    for host, library in ((wsl, f"{STORE}/libcuda.so.1"), (orin, f"{TEGRA}/libcuda.so.1")):
        name = host.directory.name
        bundle = make_bundle("dlopen=libcuda.so.1", "list=/dev", name=name, env=all_of("none"), config=host.config)
        seen = runtime.run(bundle).seen()
        assert seen["dlopen=libcuda.so.1"] == library
        assert set(seen["list=/dev"]) <= USUAL_NODES


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (all_of("1"), "this WSL 2 has one GPU: 0, 'GPU-"),
        (all_of("GPU-00000000-0000-0000-0000-000000000000"), "this WSL 2 has one GPU: 0, "),
        (("OCI_GPU_COUNT=2",), "this WSL 2 has one GPU: 0, "),
        (("OCI_GPU_COUNT=1", "OCI_GPU_MEMORY_LIMIT=1GiB"), "MPS, which would hold the container to it, does not run"),
    ],
)
def test_what_cannot_be_chosen_on_wsl_is_refused(runc_v2, make_bundle, wsl, env, words):
    done = runc_v2.run(make_bundle("list=/", env=env, config=wsl.config))
    assert done.status
    assert words in done.stderr
    assert leases(wsl) == []


@pytest.mark.parametrize("env", [all_of("0"), ("OCI_GPU_COUNT=1", "OCI_GPU_EXCLUSIVE=1", "OCI_GPU_MEMORY=40GiB")])
def test_the_only_gpu_of_wsl_may_be_asked_for_in_any_way(runc_v2, make_bundle, wsl, env):
    seen = runc_v2.run(make_bundle("open=/dev/dxg", env=env, config=wsl.config)).seen()
    assert seen["open=/dev/dxg"] == "ENXIO"


@pytest.mark.parametrize("env", [all_of("0"), ("OCI_GPU_COUNT=1",), ("OCI_GPU_COUNT=2",)])
def test_of_two_gpus_wsl_gives_all_or_none(runc_v2, make_bundle, wsl_of_two, env):
    done = runc_v2.run(make_bundle("list=/", env=env, config=wsl_of_two.config))
    assert "WSL 2 shows a container all GPUs of Windows or none (/dev/dxg), and there are 2 GPUs" in done.stderr
    seen = runc_v2.run(make_bundle("open=/dev/dxg", name="all", env=all_of(), config=wsl_of_two.config)).seen()
    assert seen["open=/dev/dxg"] == "ENXIO"


def test_an_exclusive_lease_holds_on_wsl(runc_v2, make_bundle, wsl):
    alone = ("OCI_GPU_EXCLUSIVE=1", *all_of())
    with runc_v2.started(make_bundle(name="one", args=("/bin/sleep", "60"), env=alone, config=wsl.config)):
        done = runc_v2.run(make_bundle("list=/", name="two", env=all_of(), config=wsl.config))
        assert "holds it exclusively" in done.stderr
    assert leases(wsl) == []


def test_orin_gives_what_its_csv_files_name(runtime, make_bundle, orin):
    nodes = [name for name in nodes_of_host(orin) if not name.startswith("dri/")]
    assert {"nvmap", "nvhost-gpu", "nvgpu/igpu0/ctrl", "nvidia0", "nvidiactl"} <= {*nodes}
    libraries = {
        "libcuda.so.1": f"{TEGRA}/libcuda.so.1",
        "libnvidia-ml.so.1": f"{TEGRA}/libnvidia-ml.so.1", "libnvrm_gpu.so": f"{TEGRA}/libnvrm_gpu.so",
        "libnvidia-ptxjitcompiler.so.1": f"{TEGRA}/libnvidia-ptxjitcompiler.so.1",
    }  # fmt: skip
    paths = [f"{TEGRA}/ld.so.conf", "/etc/nv_tegra_release", "/usr/share/nvidia-multimedia/notes.txt",
             "/usr/lib/aarch64-linux-gnu/libv4l2.so.0", f"{TEGRA}/libcuda.so",
             f"{TEGRA}/libnvbufsurface.so"]  # fmt: skip
    asked = [f"dlopen={name}" for name in libraries] + [f"stat={path}" for path in paths]
    bundle = make_bundle(*asked, *opens(*nodes), "stat=/usr/src/extra", env=all_of("0"), config=orin.config)
    seen = runtime.run(bundle).seen()
    assert {name: seen[f"dlopen={name}"] for name in libraries} == libraries
    assert [path for path in paths if seen[f"stat={path}"] == "ENOENT"] == []
    assert {seen[probe] for probe in opens(*nodes)} == {"ENXIO"}
    assert seen["stat=/usr/src/extra"] == "ENOENT"
    assert leases(orin) == []


def test_jetpack_may_ask_for_the_files_of_all_csv_files(runtime, make_bundle, orin):
    env = all_of("all", "NVIDIA_REQUIRE_JETPACK=csv-mounts=all")
    seen = runtime.run(make_bundle("stat=/usr/src/extra/extra.txt", env=env, config=orin.config)).seen()
    assert seen["stat=/usr/src/extra/extra.txt"].startswith("f ")


@pytest.mark.parametrize(
    ("device", "granted"),
    [
        ("0", {"nvidia0", "nvidia2", "nvidiactl", "nvidia-modeset", "nvmap", "nvhost-gpu"}),
        ("1", {"nvidia1", "nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools", "nvmap", "nvhost-gpu"}),
    ],
)  # fmt: skip
def test_a_tegras_own_gpu_and_its_card_are_given_apart(runtime, make_bundle, thor, device, granted):
    drawing = [f"dri/{path.name}" for path in (thor.directory / "sys/class/drm").iterdir()]  # the card's
    (of_chip,) = [name for name in nodes_of_host(thor) if name.startswith("dri/renderD") and name not in drawing]
    nodes = ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools", "nvmap",
             "nvhost-gpu", *drawing, of_chip)  # fmt: skip
    granted = granted | ({*drawing} if device == "1" else {of_chip})
    bundle = make_bundle(*opens(*nodes), env=all_of(device), config=thor.config)
    seen = runtime.run(with_nodes_of_the_image(bundle, thor, nodes)).seen()
    assert {name for name in nodes if seen[f"open=/dev/{name}"] == "ENXIO"} == granted
    assert {seen[f"open=/dev/{name}"] for name in {*nodes} - granted} == {"EPERM"}


def test_info_doctor_plan_and_top_know_the_platforms(make_bundle, wsl, orin, thor):
    known = ((wsl, "wsl2", "WSL 2", 1), (orin, "tegra", "Tegra", 1), (thor, "tegra", "Tegra", 2))
    for host, platform, name, count in known:
        told = json.loads(oci_gpu("--config", host.config, "info", "--json"))
        assert told["driver"]["platform"] == platform
        assert len(told["gpus"]) == count
        assert name in oci_gpu("--config", host.config, "info")
        bundle = make_bundle("list=/", name=f"plan-{host.directory.name}", env=all_of(), config=host.config)
        bundle.write()
        plan = json.loads(oci_gpu("--config", host.config, "plan", bundle.directory, "--json"))
        assert plan["warnings"] == []
        told_of_plan = oci_gpu("--config", host.config, "plan", bundle.directory)
        assert "libraries go to the paths that they have on the host" in told_of_plan
        assert ("would come with NVIDIA_REQUIRE_JETPACK=csv-mounts=all" in told_of_plan) == (platform == "tegra")
        assert "  GPU 0" in told_of_plan.partition("Device nodes")[2].partition("Mounted")[0]
        top = json.loads(oci_gpu("--config", host.config, "top", "--once", "--json"))
        assert (len(top["devices"]), top["warnings"]) == (count, [])
        assert top["devices"][-1]["uuid"] == told["gpus"][-1]["uuid"]


def test_doctor_finds_nothing_wrong_with_the_platforms(runc_v2, wsl, orin, thor, hook):
    for host in (wsl, orin, thor):
        done = runc_v2.host.call(OCI_GPU, "--config", host.config, "doctor", "--run", "--json", check=False)
        looked_at = ("driver", "nodes", "gpus", "trial")
        found = [finding for finding in json.loads(done.stdout) if finding["check"] in looked_at]
        assert {finding["check"] for finding in found} == {*looked_at}
        assert [finding for finding in found if finding["severity"] == "error"] == []
        assert [f["severity"] for f in found if f["check"] == "trial" and " runc" in f["what"]] == ["ok"]


def test_orins_gpu_is_asked_for_by_the_uuid_that_info_shows(runc_v2, make_bundle, orin):
    """NVML gives it one without `GPU-`."""
    (gpu,) = json.loads(oci_gpu("--config", orin.config, "info", "--json"))["gpus"]
    assert not gpu["uuid"].startswith("GPU-")
    seen = runc_v2.run(make_bundle("open=/dev/nvmap", env=all_of(gpu["uuid"]), config=orin.config)).seen()
    assert seen["open=/dev/nvmap"] == "ENXIO"
    other = "12345678-1234-1234-1234-123456789abc"
    done = runc_v2.run(make_bundle("list=/", name="other", env=all_of(other), config=orin.config))
    assert done.status
    assert other in done.stderr


@pytest.mark.parametrize("name", ["wsl", "wsl_of_two", "orin"])
def test_what_a_container_has_lost_is_found_and_put_back(runc_v2, make_bundle, name, request):
    host = request.getfixturevalue(name)
    node = "/dev/nvmap" if name == "orin" else "/dev/dxg"
    bundle = make_bundle(name=f"lost-{name}", args=("/bin/sleep", "60"), env=all_of(), config=host.config)
    with runc_v2.started(bundle) as container:
        assert command(runc_v2, host, "verify", container.id).returncode == 0
        container.path(node).unlink()
        found = command(runc_v2, host, "verify", container.id)
        assert found.returncode == 1
        assert node in found.stdout
        assert command(runc_v2, host, "repair", container.id).returncode == 0
        assert stat.S_ISCHR(container.path(node).stat().st_mode)
        assert command(runc_v2, host, "verify", container.id).returncode == 0
    assert leases(host) == []


def command(runtime, host, *words):
    """Run the command for people on the runtime's host."""
    return runtime.host.call(OCI_GPU, "--config", host.config, *words, check=False)
