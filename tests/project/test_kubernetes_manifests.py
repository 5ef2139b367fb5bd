"""The manifests of package/kubernetes agree with each other, with the code, and with what they name."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from oci_gpu_hook.admin.engines.model import RUNTIME_NAME
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.request import parse
from tests.paths import ROOT
from tests.unit.request import texts

DIRECTORY = ROOT / "package/kubernetes"
MANIFESTS = {path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted(DIRECTORY.glob("*.yaml"))}
PODS = {pod["metadata"]["name"]: pod for pod in MANIFESTS["pods"]}


def test_the_runtime_class_names_the_handler_that_install_makes():
    (runtime_class,) = MANIFESTS["runtimeclass"]
    assert (runtime_class["apiVersion"], runtime_class["kind"]) == ("node.k8s.io/v1", "RuntimeClass")
    assert runtime_class["handler"] == RUNTIME_NAME
    assert {pod["spec"]["runtimeClassName"] for pod in PODS.values()} == {runtime_class["metadata"]["name"]}


def test_pods_go_to_the_nodes_that_the_daemon_set_makes_ready():
    (runtime_class,), (daemons,) = MANIFESTS["runtimeclass"], MANIFESTS["daemonset"]
    spec = daemons["spec"]["template"]["spec"]
    assert runtime_class["scheduling"]["nodeSelector"] == spec["nodeSelector"]
    (label,) = spec["nodeSelector"]
    assert f"{label}=true" in (ROOT / "docs/kubernetes.md").read_text()
    labels = daemons["spec"]["template"]["metadata"]["labels"]
    assert daemons["spec"]["selector"]["matchLabels"] == labels


def test_the_daemon_set_runs_what_its_image_has():
    (daemons,) = MANIFESTS["daemonset"]
    spec = daemons["spec"]["template"]["spec"]
    (install,) = spec["initContainers"]
    dockerfile = (DIRECTORY / "Dockerfile").read_text()
    program, package = install["command"]
    assert f"COPY package/kubernetes{program} /\n" in dockerfile
    assert f"COPY dist/oci-gpu-hook_*.deb {package}\n" in dockerfile
    assert spec["hostPID"] is True  # nsenter --target 1
    assert install["securityContext"] == {"privileged": True}
    assert not [each for each in spec["containers"] if each["securityContext"].get("privileged")]


def test_the_script_is_one():
    script = DIRECTORY / "install-on-node.sh"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("pod", "container", "asked"),
    [
        ("by-count", "trainer", (2, True, ())),
        ("by-count", "proxy", None),
        ("mig-by-count", "trainer", (1, False, ("1g.10gb",))),
    ],
)
def test_a_pod_asks_for_what_it_is_to_show(pod, container, asked):
    (spec,) = [each for each in PODS[pod]["spec"]["containers"] if each["name"] == container]
    annotations = PODS[pod]["metadata"].get("annotations", {})
    place = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": container}
    env = tuple(f"{each['name']}={each['value']}" for each in spec.get("env", ()))
    reading = parse.read(texts.container(env=env, annotations=annotations | place), Config())
    assert reading.warnings == ()
    request = reading.request
    assert (request and (request.count, request.exclusive, request.devices)) == asked
