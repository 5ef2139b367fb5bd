"""Which engine a container is of, and what it is called there, by the files that engines write."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.oci import naming

ID = "3f5a" * 16
TASK = f"/run/containerd/io.containerd.runtime.v2.task/{{}}/{ID}"
POD = {
    "io.kubernetes.cri.sandbox-namespace": "ml",
    "io.kubernetes.cri.sandbox-name": "train-0",
    "io.kubernetes.cri.container-name": "main",
}
NERDCTL = {"nerdctl/name": "web"}
LIBPOD = {"io.container.manager": "libpod"}


def made(engine="", name=""):
    return naming.Naming(engine=engine, name=name)


@pytest.mark.parametrize("rootfs", ["overlay2/5c/merged", f"rootfs/overlayfs/{ID}"])
def test_docker_with_either_store_of_images(tmp_path, rootfs):
    record = tmp_path / "containers" / ID / "config.v2.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"ID": ID, "Name": "/eager_curie"}))
    assert naming.of(ID, TASK.format("moby"), f"{tmp_path}/{rootfs}", {}) == made("docker", "eager_curie")
    record.chmod(0o666)  # anybody could have written it
    assert naming.of(ID, TASK.format("moby"), f"{tmp_path}/{rootfs}", {}) == made("docker")


@pytest.mark.parametrize(
    ("namespace", "annotations", "expected"),
    [
        ("k8s.io", POD, made("containerd", "ml/train-0/main")),
        ("default", NERDCTL, made("nerdctl", "web")),
        ("default", {}, made("containerd")),
    ],
)
def test_containerd(namespace, annotations, expected):
    assert naming.of(ID, TASK.format(namespace), "/none/rootfs", annotations) == expected


@pytest.mark.parametrize(
    ("annotations", "engine", "name"),
    [
        (LIBPOD, "podman", "quiet_euler"),
        ({**LIBPOD, "io.kubernetes.cri-o.Name": "of an image"}, "podman", "quiet_euler"),
        ({"io.kubernetes.cri-o.Name": "k8s_main"}, "cri-o", "quiet_euler"),
        ({"io.kubernetes.cri-o.Name": "k8s_main", **POD}, "cri-o", "ml/train-0/main"),
        ({"mesos.container": "of an image"}, "podman", "quiet_euler"),
    ],
)
def test_containers_storage(tmp_path, annotations, engine, name):
    directory = tmp_path / "overlay-containers"
    directory.mkdir()
    (directory / "containers.json").write_text(json.dumps([{"id": ID, "names": ["quiet_euler"]}]))
    found = naming.of(ID, f"{directory}/{ID}/userdata", f"{tmp_path}/overlay/x/merged", annotations)
    assert found == made(engine, name)


def test_mesos_and_what_no_engine_has_made():
    of_mesos = {"mesos.container": "a.b", "mesos.executor-id": "task-7"}
    assert naming.of("a.b", "/run/oci-gpu-hook/mesos/x", "/r", of_mesos) == made("mesos", "task-7")
    assert naming.of("mine", "/srv/bundle", "/srv/bundle/rootfs", {}) == made()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/system.slice/docker-{ID}.scope", ("docker", ID)),
        (f"/docker/{ID}", ("docker", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", ("podman", ID)),
        (f"/kubepods.slice/kubepods-pod12.slice/cri-containerd-{ID}.scope", ("containerd", ID)),
        (f"/kubepods.slice/x.slice/crio-{ID}.scope", ("cri-o", ID)),
        (f"/kubepods/pod12/{ID}", ("", ID)),
        ("/user.slice/user-0.slice/session-1.scope", ("", "")),
        (f"/docker-{ID[:-1]}x.scope", ("", "")),
        ("/", ("", "")),
    ],
)
def test_the_container_that_a_cgroup_names(path, expected):
    assert naming.of_cgroup(path) == expected


def test_an_id_as_people_see_it():
    assert naming.short(ID) == ID[:12]
    assert naming.short("gpu-hook-test-1234-56789") == "gpu-hook-test-1234-56789"
