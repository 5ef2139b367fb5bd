"""Rootless Podman on a host whose GPU nodes are of a group that the user is in: kept by keep-groups alone."""

from __future__ import annotations

import copy
import json
import os

import pytest

GROUP = 4242
CONFIG = "/etc/oci-gpu-hook/config.toml"
SECOND = "open=/dev/nvidia1"


@pytest.fixture
def member(user_podman, simulated):
    """Podman of a user who is in the group of the second GPU's node."""
    node = simulated.dev / "nvidia1"
    before = node.stat()
    os.chown(node, 0, GROUP)
    node.chmod(0o660)
    machine = user_podman.engines
    config = simulated.config.read_text()
    log = f'\n[log]\nlevel = "info"\nfile = "{machine.work}/user/log"\n'
    machine.write(CONFIG, config.partition("[log]")[0] + log)
    podman = copy.copy(user_podman)
    groups = f"--groups={GROUP}"
    podman._prefix = tuple(groups if word == "--clear-groups" else word for word in user_podman._prefix)
    yield podman
    machine.write(CONFIG, config)
    machine.path(f"{machine.work}/user/log").unlink(missing_ok=True)
    node.chmod(before.st_mode & 0o7777)
    os.chown(node, before.st_uid, before.st_gid)


def warnings(podman) -> list[str]:
    log = podman.engines.path(f"{podman.engines.work}/user/log")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["text"] for record in records if record["event"] == "warning"]


def test_a_gpu_of_all_that_cannot_be_opened_is_named(member):
    seen = member.run("-e", "NVIDIA_VISIBLE_DEVICES=all", probe=("open=/dev/nvidia0", SECOND)).seen()
    assert seen == {"open=/dev/nvidia0": "ENXIO", SECOND: "EACCES"}
    (warning,) = warnings(member)
    assert warning.startswith("the container's root may not open /dev/nvidia1 (mode 0660, owner 65534, group 65534 of ")
    assert "--group-add keep-groups" in warning


def test_who_keeps_the_groups_is_told_nothing(member):
    options = ("-e", "NVIDIA_VISIBLE_DEVICES=all", "--group-add", "keep-groups")
    assert member.run(*options, probe=(SECOND,)).seen() == {SECOND: "ENXIO"}
    assert warnings(member) == []


def test_keeping_groups_does_not_help_who_is_in_none(member, user_podman):
    options = ("-e", "NVIDIA_VISIBLE_DEVICES=all", "--group-add", "keep-groups")
    assert user_podman.run(*options, probe=(SECOND,)).seen() == {SECOND: "EACCES"}
    (warning,) = warnings(member)
    assert "may not open /dev/nvidia1" in warning


@pytest.mark.parametrize("keeps", [False, True])
def test_verify_of_the_user_says_the_same(member, keeps):
    options = ("--group-add", "keep-groups") if keeps else ()
    container = member.detached("-e", "NVIDIA_VISIBLE_DEVICES=all", *options)
    machine = member.engines
    command = ("env", f"PYTHONPATH={machine.work}/lib", "python3", "-m", "oci_gpu_hook.admin.cli.main")
    *become, podman = member._prefix
    done = machine.run(*become, podman, "unshare", *command, "verify", container, "--json", check=False)
    (document,) = json.loads(done.stdout)
    told = [("access", "its user 0 may not open /dev/nvidia1")]
    assert [(finding["kind"], finding["what"]) for finding in document["findings"]] == ([] if keeps else told)
