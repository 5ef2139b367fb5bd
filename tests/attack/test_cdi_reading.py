"""What CDI files of others describe goes into the container and nowhere else, whatever its image has at those paths.

The files are root's word; the image, the task's variables and who may write near the files are not.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.runtime.conftest import vendors  # noqa: F401  a fixture
from tests.runtime.test_cdi_by_hook import by_hook  # noqa: F401  a fixture
from tests.runtime.vendors import leases

KIND = "every.com/thing"
ASKED = {"io.oci-gpu-hook.devices": f"{KIND}=one"}


def describe(vendors, edits: dict) -> None:  # noqa: F811
    device = {"name": "one", "containerEdits": edits}
    vendors.write("every.json", {"cdiVersion": "0.5.0", "kind": KIND, "devices": [device]})


LINKS = ("{victim}", "../../../../../../../../..{victim}", "/proc/self/cwd", "/proc/1/root{victim}", "/proc/self/root")
PLACES = ("/trap/new", "/trap/below/deep", "/trap/../../../../../../../..{victim}/new", "{victim}/new", "/trap/data")


@pytest.mark.parametrize("link", LINKS)
def test_no_path_of_a_file_leads_out_of_the_container(runc, by_hook, canary, tally, link):  # noqa: F811
    """By the hook alone, which resolves them itself: binds, tmpfs and nodes."""
    victim = canary.directory / "victim"
    victim.mkdir()
    (victim / "data").write_text("of the host")
    source = canary.directory / "source"
    source.write_text("of a specification")
    node = by_hook.vendors.node("plain", 241, 0)
    for number, place in enumerate(PLACES):
        path = place.format(victim=victim)
        edits = (
            {"mounts": [{"hostPath": str(source), "containerPath": path, "options": ["bind", "rw"]}]},
            {"mounts": [{"hostPath": "tmpfs", "containerPath": path, "type": "tmpfs", "options": ["size=4k"]}]},
            {"deviceNodes": [node | {"path": path}]},
        )
        for kind, each in enumerate(edits):
            describe(by_hook.vendors, each)
            bundle = by_hook("list=/", annotations=ASKED, name=f"bundle-{number}-{kind}")
            (bundle.rootfs / "trap").symlink_to(link.format(victim=victim))
            if not number + kind:
                canary.seal()
            result = runc.run(bundle)
            tally.count()
            assert canary.is_untouched(), (path, each)
            assert result.status == 0 or result.complaint(), result.stderr


def test_variables_and_an_image_choose_nothing_of_the_hooks(front, plain_bundle, vendors, directory, tally):  # noqa: F811
    """A specification's variables are the container's; hooks of the runtime get those of their own entries alone."""
    said = directory / "said"
    hook = directory / "hook"
    hook.write_text(f"#!/bin/sh\nenv >> {said}\n")
    hook.chmod(0o755)
    evil = ["LD_PRELOAD=/evil.so", "PYTHONPATH=/evil", "BASH_ENV=/evil", "LD_LIBRARY_PATH=/evil"]
    hooks = [{"hookName": stage, "path": str(hook), "env": ["MINE=1"]} for stage in ("createRuntime", "poststop")]
    describe(vendors, {"env": evil, "hooks": hooks})
    env = (f"OCI_GPU_DEVICES={KIND}=one", "LD_AUDIT=/evil.so", "MINE=2")
    bundle = plain_bundle("getenv=LD_PRELOAD", env=env)
    (bundle.rootfs / "evil.so").write_bytes(b"\x7fELF")
    seen = front.run(bundle).seen()
    tally.count()
    assert seen["getenv=LD_PRELOAD"] == "/evil.so"
    assert "evil" not in said.read_text()
    assert said.read_text().count("MINE=1") == 2
    written = json.loads((bundle.directory / "config.json").read_text())
    ours = [entry for stage in written["hooks"].values() for entry in stage if "oci-gpu-hook" in entry["path"]]
    assert ours
    assert all("evil" not in json.dumps(entry) for entry in ours)


@pytest.mark.parametrize("how", ["link", "directory of theirs", "renamed over", "fifo"])
def test_whoever_may_write_near_the_files_describes_nothing(front, plain_bundle, vendors, directory, tally, how):  # noqa: F811
    """Of a file that somebody else can exchange nothing is taken, at once and after it was taken from root."""
    describe(vendors, {"env": ["OF=root"]})
    env = (f"OCI_GPU_DEVICES={KIND}=one",)
    assert front.run(plain_bundle("getenv=OF", env=env, name="before")).seen()["getenv=OF"] == "root"
    theirs = directory / "theirs"
    theirs.mkdir()
    device = {"name": "one", "containerEdits": {"env": ["OF=theirs"]}}
    file = theirs / "every.json"
    file.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": KIND, "devices": [device]}))
    os.chown(file, 1000, 1000)
    place = vendors.specs / "every.json"
    place.unlink()
    if how == "link":
        place.symlink_to(file)
    elif how == "directory of theirs":
        os.chown(file, 0, 0)
        os.chown(theirs, 1000, 1000)
        place.symlink_to(file)
    elif how == "renamed over":
        file.rename(place)
    else:
        os.mkfifo(place)
    refused = front.run(plain_bundle("getenv=OF", env=env, name="after"))
    tally.count()
    assert refused.status == 1
    assert "could not be used" in refused.stderr


def test_a_record_of_a_bundle_cannot_be_forged(front, plain_bundle, simulated, tally):
    """An annotation says that a mount and a hook were put in: without this project's own record nothing is taken."""
    note = json.dumps({"devices": [], "rules": [], "groups": [], "visibleDevices": [None, None], "described": True})
    bundle = plain_bundle("list=/", annotations={"io.oci-gpu-hook.prepared": note})
    mounts = json.loads(json.dumps(bundle.config["mounts"]))
    assert front.run(bundle).status == 0
    tally.count()
    assert json.loads((bundle.directory / "config.json").read_text())["mounts"] == mounts
    assert leases(simulated) == []
