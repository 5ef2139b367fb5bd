"""`[request] image-may-ask`: what an image says by itself, told from what is said by whoever starts the container."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse as read_toml
from oci_gpu_hook.base.errors import ConfigError
from oci_gpu_hook.oci import engine_records
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request import parse

ALL = "NVIDIA_VISIBLE_DEVICES=all"
IMAGE = "17eed2d088ad15167cb8593793f36e5868210731b9d298d4a8570060742dfade"
OF_IMAGE = ("PATH=/bin", ALL, "NVIDIA_DRIVER_CAPABILITIES=compute,utility")


def container(rootfs, *env, name="c1", annotations=None):
    return Container(
        id=name, pid=0, bundle="/bundle", rootfs=str(rootfs), root_readonly=False, env=env, mounts=(),
        annotations=annotations or {}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(),
        gid_mappings=(), cgroups_path="", device_rules=(),
    )  # fmt: skip


def write(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file)
    os.chmod(path, 0o600)


def docker(store, env, driver="overlay2"):
    """Lay out Docker's records as moby does; return the container's root directory."""
    write(f"{store}/containers/c1/config.v2.json", {"ID": "c1", "Image": f"sha256:{IMAGE}", "Config": {"Env": []}})
    write(f"{store}/image/{driver}/imagedb/content/sha256/{IMAGE}", {"config": {"Env": list(env)}})
    return f"{store}/{driver}/5eed/merged"


def podman(store, env, driver="overlay", records="containers.json"):
    """Lay out records as containers/storage does, for Podman and CRI-O."""
    others = [{"id": "c0", "image": "0" * 64}, 3, {"id": "c1"}]
    write(f"{store}/{driver}-containers/{records}", [*others, {"id": "c1", "image": IMAGE}])
    key = base64.b64encode(f"sha256:{IMAGE}".encode()).decode()
    write(f"{store}/{driver}-images/{IMAGE}/={key}", {"config": {"Env": list(env)}})
    return f"{store}/{driver}/dir/5eed" if driver == "vfs" else f"{store}/{driver}/5eed/merged"


STORES = {
    "docker": docker,
    "docker, vfs": lambda store, env: docker(store, env, "vfs"),
    "podman": podman,
    "podman, vfs": lambda store, env: podman(store, env, "vfs"),
    "podman, volatile": lambda store, env: podman(store, env, records="volatile-containers.json"),
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return STORES[request.param](tmp_path / "store", OF_IMAGE)


def read(box, policy):
    reading = parse.read(box, Config(image_may_ask=policy))
    return reading.request, [text for text in reading.warnings if "image-may-ask" in text]


def test_what_the_image_says_is_its_own(store):
    box = container(store, *OF_IMAGE)
    assert read(box, "yes")[1] == []
    request, warnings = read(box, "warn")
    assert request.devices == ("all",)
    (warning,) = warnings
    assert warning.startswith(
        "NVIDIA_VISIBLE_DEVICES='all' is what the image says; the person who starts the container may not"
    )
    request, (warning,) = read(box, "no")
    assert request is None
    assert warning.startswith("GPUs asked for by NVIDIA_VISIBLE_DEVICES='all' are not given: it is what the image says")


@pytest.mark.parametrize(
    "env",
    [
        (ALL.replace("all", "0"),),  # --env in the place of the image's
        (ALL, ALL),  # Docker's --gpus all, behind the image's
        (ALL, "NVIDIA_VISIBLE_DEVICES=0"),
        (ALL.replace("all", ""), "OCI_GPU_COUNT=1"),
    ],
)
def test_what_whoever_starts_it_says_is_heard(store, env):
    for policy in ("warn", "no"):
        request, warnings = read(container(store, "PATH=/bin", *env), policy)
        assert request is not None
        assert warnings == []


def test_annotations_are_no_words_of_an_image(store):
    for policy in ("warn", "no"):
        request, warnings = read(container(store, *OF_IMAGE, annotations={"io.oci-gpu-hook.count": "1"}), policy)
        assert (request.count, warnings) == (1, [])


def test_an_image_of_before_asks_by_itself(store):
    env = ("CUDA_VERSION=9.0",)
    assert read(container(store, *env), "yes")[0].devices == ("all",)
    assert "CUDA_VERSION is what the image says" in read(container(store, *env), "warn")[1][0]
    assert read(container(store, *env), "no")[0] is None


@pytest.mark.parametrize(
    ("value", "given"),
    [("all", False), ("0", False), ("none", False), ("GPU-ac72368a-586a-18c1-9088-393573ce0307", True)],
)
def test_where_no_engine_tells_all_that_an_image_could_say_is_taken_for_its_word(tmp_path, value, given):
    box = container(tmp_path, f"NVIDIA_VISIBLE_DEVICES={value}")
    request, warnings = read(box, "no")
    assert (request is not None) == given
    assert bool(warnings) != given
    request, warnings = read(box, "warn")
    assert request is not None
    assert given or "may be what the image says, which this engine does not tell" in warnings[0]


@pytest.mark.parametrize("value", ["void", ""])
def test_no_gpu_is_nothing_to_be_told_about(store, value):
    assert read(container(store, f"NVIDIA_VISIBLE_DEVICES={value}"), "no") == (None, [])


BROKEN = {
    "no record": os.unlink,
    "no JSON": lambda path: open(path, "w").close(),
    "another shape": lambda path: write(path, ["?"]),
    "somebody else's": lambda path: os.chmod(path, 0o666),
    "image out of the store": lambda path: write(path, {"Image": "sha256:../../../etc"}),
    "image of another kind": lambda path: write(path, {"Image": ["sha256"]}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_record_that_cannot_be_read_tells_nothing(tmp_path, kind):
    rootfs = docker(tmp_path / "store", OF_IMAGE)
    BROKEN[kind](str(tmp_path / "store/containers/c1/config.v2.json"))
    assert engine_records.image_environment(rootfs, "c1") is None


@pytest.mark.skipif(not shutil.which("podman") or os.geteuid() != 0, reason="needs podman and root")
def test_podmans_own_records(tmp_path):
    (tmp_path / "root").mkdir()
    shutil.copy("/bin/true", tmp_path / "root/true")
    place = tempfile.mkdtemp(prefix="ogh", dir="/tmp")  # Podman takes no longer names
    storage = ["podman", "--root", f"{place}/graph", "--runroot", f"{place}/run", "--storage-driver", "vfs"]

    def call(*words):
        return subprocess.run([*storage, *words], check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run(["tar", "-C", tmp_path / "root", "-cf", tmp_path / "image.tar", "."], check=True)
    call("import", "--change", f"ENV {ALL}", tmp_path / "image.tar", "image")
    name = call("create", "--env", "NVIDIA_VISIBLE_DEVICES=0", "image", "/true")
    rootfs = call("mount", name)
    try:
        assert ALL in (engine_records.image_environment(rootfs, name) or ())
    finally:
        call("rm", name)
        shutil.rmtree(place)


@pytest.mark.parametrize("value", ["yes", "warn", "no"])
def test_the_key(value):
    assert read_toml(f'[request]\nimage-may-ask = "{value}"\n').image_may_ask == value


def test_the_key_takes_nothing_else():
    with pytest.raises(ConfigError, match="expected one of yes, warn, no"):
        read_toml("[request]\nimage-may-ask = false\n")
