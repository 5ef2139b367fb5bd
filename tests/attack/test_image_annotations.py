"""Annotations are for whoever starts a container: what an image says by them asks for nothing.

Podman copies the annotations of an image's manifest into config.json, where they look like the others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import image_facts
from oci_gpu_hook.entrypoints import runtime
from oci_gpu_hook.entrypoints.runtime_call import Call
from oci_gpu_hook.oci.container import State, of_document
from oci_gpu_hook.request import parse
from oci_gpu_hook.request.model import PREPARED
from tests.unit.request.test_image_asks import IMAGE, podman, write

STRICT = Config(image_may_ask="no", accept_envvar_when_unprivileged=False)
NOTE = json.dumps({"devices": [], "rules": [], "groups": [0], "visibleDevices": ["all", "void"]})
EVIL = {
    "io.oci-gpu-hook.devices": "all",
    "io.oci-gpu-hook.exclusive": "true",
    "io.oci-gpu-hook.nested-proc": "true",
    "io.kubernetes.cri.sandbox-name": "somebody-elses-pod",
    "cdi.k8s.io/x": "nvidia.com/gpu=all",
    PREPARED: NOTE,
}


def said(store, annotations: dict[str, str] | None) -> str:
    """Lay out what containers/storage has of a container and its image; return the root directory."""
    rootfs = podman(store, ("PATH=/bin",))
    if annotations is not None:
        write(f"{store}/overlay-images/{IMAGE}/manifest", {"schemaVersion": 2, "annotations": annotations})
    return rootfs


def document(rootfs: str, annotations: dict[str, str], *env: str) -> dict:
    return {
        "process": {"env": list(env), "user": {"additionalGids": [0, 7]}},
        "root": {"path": rootfs},
        "mounts": [{"destination": "/proc"}],
        "annotations": {"io.container.manager": "libpod", **annotations},
    }


def read(config: dict):
    return of_document(config, State(id="c1", pid=0, bundle="/bundle", root="", annotations={}))


def test_what_the_image_says_asks_for_nothing(tmp_path, tally):
    container = read(document(said(tmp_path, EVIL), EVIL))
    tally.count()
    for config in (Config(), STRICT):
        reading = parse.read(container, config)
        assert reading.request is None
        assert len([text for text in reading.warnings if "is what the image says" in text]) == len(EVIL)
    assert not image_facts._nested_proc(container, Config())


def test_whoever_starts_it_is_heard_beside_it(tmp_path, tally):
    rootfs = said(tmp_path, EVIL)
    tally.count()
    own = {"io.oci-gpu-hook.devices": "0", "io.oci-gpu-hook.capabilities": "utility"}
    request = parse.parse(read(document(rootfs, {**EVIL, **own})), STRICT)
    assert request is not None
    assert (request.devices, request.exclusive) == (("0",), False)


def test_an_image_of_which_nothing_is_known_is_not_believed(tmp_path, tally):
    """Podman finds images in stores of others too, read-only ones that several machines share."""
    container = read(document(said(tmp_path, None), EVIL))
    tally.count()
    assert parse.parse(container, Config()) is None


def test_no_image_writes_the_note_of_what_was_put_into_a_bundle(tmp_path, monkeypatch, tally):
    """What the note names is taken out of the bundle, and the variable that it names is set to another value."""
    note = {PREPARED: NOTE}
    config = document(said(tmp_path / "store", note), note, "NVIDIA_VISIBLE_DEVICES=void")
    write(tmp_path / "config.json", config)
    before = (tmp_path / "config.json").read_bytes()
    tally.count()
    monkeypatch.setattr("oci_gpu_hook.base.config.load.DEFAULT_PATH", str(tmp_path / "none"))
    call = Call(bundle=str(tmp_path), container="c1", log="", log_format="")
    assert runtime.prepare(call, "/hook") is None
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.skipif(not shutil.which("podman") or os.geteuid() != 0, reason="needs podman and root")
def test_podman_itself(tmp_path, tally):
    place = tempfile.mkdtemp(prefix="ogh", dir="/tmp")  # Podman takes no longer names
    storage = ["podman", "--root", f"{place}/graph", "--runroot", f"{place}/run", "--storage-driver", "vfs"]

    def call(*words):
        return subprocess.run([*storage, *words], check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\nCMD /true\n")
    annotations = [f"--annotation={name}={text}" for name, text in EVIL.items() if name != PREPARED]
    call("build", *annotations, "-t", "evil", tmp_path)
    name = call("create", "--network=none", "--annotation=io.oci-gpu-hook.count=1", "evil")
    try:
        found = json.loads(call("inspect", name))[0]["Config"]["Annotations"]
        assert found["io.oci-gpu-hook.devices"] == "all"  # so it would ask
        config = document(call("mount", name), found)
        state = State(id=name, pid=0, bundle="/bundle", root="", annotations={})
        container = of_document(config, state)
        tally.count()
        assert set(container.of_image) == set(EVIL) - {PREPARED}
        request = parse.parse(container, STRICT)
        assert request is not None
        assert (request.count, request.exclusive) == (1, False)
    finally:
        call("rm", name)
        shutil.rmtree(place)
