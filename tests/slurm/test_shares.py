"""Parts of GPUs in Slurm's containers: refused where MPS would have to hold them, reserved where nothing does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.slurm.cluster import USER
from tests.slurm.test_slurm import answers

PART = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "OCI_GPU_MEMORY_LIMIT=40GiB")
LESS = (*PART[:2], "OCI_GPU_MEMORY_LIMIT=30GiB")


@pytest.fixture
def bundle(cluster, request):
    """Make a bundle: bundle(env=…)."""
    made: list[Path] = []

    def bundle(**options):
        made.append(cluster.bundle(f"{request.node.name}-{len(made)}".replace("_", "-"), **options))
        return made[-1]

    return bundle


@pytest.fixture
def reserved(cluster):
    """The node reserves parts of GPUs and enforces none."""
    file = cluster.machine.path("/etc/oci-gpu-hook/config.toml")
    text = file.read_text()
    file.write_text(f'{text}\n[sharing]\nenforce = "none"\n')
    yield
    file.write_text(text)


def test_a_user_cannot_have_mps_started(cluster, bundle):
    done = cluster.user("srun", "--gres=gpu:1", f"--container={bundle(env=PART)}", "/bin/true", check=False)
    assert done.returncode
    assert "only root can start the MPS daemon that limits a container to it" in done.stderr
    assert "in config.toml" in done.stderr


def test_two_steps_share_the_gpu_of_their_job_and_a_third_is_refused(cluster, bundle, reserved):
    first, second, third = bundle(env=PART), bundle(env=LESS), bundle(env=PART)
    out = cluster.work / "out"
    script = f"""
        srun --overlap -n1 -c1 --gres=gpu:1 --container={first} -o part-1 /bin/sh -c '/probe list=/dev; sleep 8' &
        sleep 2
        srun --overlap -n1 -c1 --gres=gpu:1 --container={second} -o part-2 /bin/sh -c '/probe list=/dev; sleep 3' &
        sleep 2
        unshare --user --map-root-user {" ".join(map(str, cluster.machine.command("leases", "--json")))} > part-leases
        srun --overlap -n1 -c1 --gres=gpu:1 --container={third} /bin/true 2> part-3
        wait
    """
    cluster.user("salloc", "-n4", "--gres=gpu:1", "sh", "-c", script, check=False)
    for name in ("part-1", "part-2"):
        assert "nvidia0" in answers((out / name).read_text())["list=/dev"]
    leases = json.loads((out / "part-leases").read_text())
    sizes = [part["memory"] >> 30 for lease in leases for part in lease["shares"].values()]
    assert sorted(sizes) == [30, 40]
    assert "40GiB of GPU 0" in (out / "part-3").read_text()
    assert cluster.leases(USER) == []
