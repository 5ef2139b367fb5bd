"""Containers in the container: a user namespace can mount a procfs, where that is asked for and nothing is masked."""

from __future__ import annotations

import json

import pytest

from tests.runtime.fixtures import oci_gpu

NEST = "nestproc"
GPUS = "list=/proc/driver/nvidia/gpus"
NEIGHBOUR = ("mknod=/dev/mine1:195:1", "open=/dev/mine1")
ASKS = {"io.oci-gpu-hook.nested-proc": "true"}


@pytest.fixture
def unmasked(make_bundle):
    """Make bundles in which the engine has masked nothing of /proc."""

    def make(*probe: str, **options):
        bundle = make_bundle(*probe, **options)
        bundle.config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
        return bundle

    return make


def decisions(bundle, config) -> list[str]:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json")).get("decisions", [])


def test_a_container_without_gpus_can(runtime, unmasked):
    assert runtime.run(unmasked(NEST)).seen() == {NEST: "mounted"}


def test_one_with_gpus_cannot_for_others_are_hidden(runtime, unmasked, simulated):
    bundle = unmasked(GPUS, NEST, gpus="0")
    assert runtime.run(bundle).seen() == {GPUS: [simulated.gpus()[0].bus_id], NEST: "EPERM"}
    assert decisions(bundle, simulated.config) == []


@pytest.mark.parametrize("by", ["annotation", "configuration"])
def test_one_that_says_so_can_and_opens_no_other_gpu(runtime, unmasked, simulated, directory, by):
    config, options = simulated.config, {"annotations": ASKS}
    if by == "configuration":
        config = directory / "config.toml"
        config.write_text(f"{simulated.config.read_text()}\n[request]\nnested-proc = true\n")
        options = {}
    bundle = unmasked(*NEIGHBOUR, "open=/dev/nvidia0", NEST, gpus="0", config=config, **options)
    seen = runtime.run(bundle).seen()
    assert seen[NEST] == "mounted"
    assert (seen["open=/dev/nvidia0"], seen["open=/dev/mine1"]) == ("ENXIO", "EPERM")
    (decision,) = decisions(bundle, config)
    assert decision.startswith("/proc/driver/nvidia is left as it is and shows all GPUs of the host")


def test_an_annotation_goes_before_the_configuration(runtime, unmasked, simulated, directory):
    config = directory / "config.toml"
    config.write_text(f"{simulated.config.read_text()}\n[request]\nnested-proc = true\n")
    annotations = {"io.oci-gpu-hook.nested-proc": "false"}
    assert runtime.run(unmasked(NEST, gpus="0", config=config, annotations=annotations)).seen() == {NEST: "EPERM"}


def test_an_image_has_no_say(runtime, unmasked):
    env = ("OCI_GPU_NESTED_PROC=true", "NVIDIA_NESTED_PROC=true")
    assert runtime.run(unmasked(NEST, gpus="0", env=env)).seen() == {NEST: "EPERM"}


def test_what_is_neither_yes_nor_no_is_refused(runtime, unmasked):
    annotations = {"io.oci-gpu-hook.nested-proc": "perhaps"}
    complaint = runtime.run(unmasked(NEST, gpus="0", annotations=annotations)).complaint()
    assert complaint.startswith("io.oci-gpu-hook.nested-proc='perhaps': is neither true nor false; ")
