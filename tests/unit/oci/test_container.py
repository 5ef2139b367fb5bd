"""What engines hand over is read, or refused with what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from oci_gpu_hook.admin.cli import bundle
from oci_gpu_hook.apply.process import check_process
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.oci import container

RUNC = {"ociVersion": "1.0.2-dev", "id": "c1", "status": "creating", "pid": 4242, "bundle": "/run/b"}
CRUN = {"ociVersion": "1.0", "id": "c1", "pid": 4242, "root": "rootfs", "bundle": "/run/b", "status": "created"}
CONFIG = {"ociVersion": "1.0.2", "process": {"env": ["A=1"]}, "root": {"path": "rootfs"}}


def state(**members):
    return container.read_state(json.dumps({**RUNC, **members}).encode())


def parsed(config, **members):
    return container.parse_config(json.dumps(config).encode(), state(**members))


def test_state_of_runc():
    assert state() == container.State(id="c1", status="creating", pid=4242, bundle="/run/b", root="", annotations={})


def test_state_of_crun_has_a_root():
    found = container.read_state(json.dumps(CRUN).encode())
    assert (found.root, found.status) == ("rootfs", "created")


def test_state_of_release_candidates_says_bundle_path():
    document = {name: value for name, value in RUNC.items() if name != "bundle"} | {"bundlePath": "/old"}
    assert container.read_state(json.dumps(document).encode()).bundle == "/old"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "expected a JSON object"),
        (None, "expected a JSON object"),
        ({}, "has no bundle"),
        ({"bundle": 7}, "bundle: expected a string"),
        ({"bundle": "relative"}, "is not an absolute path"),
        ({"bundle": "/b\0/x"}, "cannot be a path"),
        ({"bundle": "/b", "pid": "1"}, "pid: expected an integer"),
        ({"bundle": "/b", "pid": True}, "pid: expected an integer"),
        ({"bundle": "/b", "id": "../../x"}, "cannot name a container"),
        ({"bundle": "/b", "annotations": {"a": 1}}, "is not a string"),
    ],
)
def test_states_of_another_shape_are_refused(document, why):
    with pytest.raises(InvalidInput, match=why):
        container.read_state(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("path", "rootfs"),
    [
        ("rootfs", "/run/b/rootfs"),
        ("./a/../rootfs/", "/run/b/rootfs"),
        ("/var/lib/docker/overlay2/x/merged", "/var/lib/docker/overlay2/x/merged"),
    ],
)
def test_rootfs_is_below_the_bundle_or_absolute(path, rootfs):
    assert parsed({**CONFIG, "root": {"path": path}}).rootfs == rootfs


@pytest.mark.parametrize("path", ["..", "../other", "a/../../other", ".", "", "../b"])
def test_rootfs_does_not_leave_the_bundle(path):
    with pytest.raises(InvalidInput, match=r"leads out of the bundle|is empty"):
        parsed({**CONFIG, "root": {"path": path}})


def test_root_of_the_state_goes_before_the_bundles():
    assert parsed(CONFIG, root="/run/crun/c1/rootfs").rootfs == "/run/crun/c1/rootfs"
    assert parsed(CONFIG, root="other").rootfs == "/run/b/other"


def test_annotations_of_the_state_go_before_the_bundles():
    found = parsed({**CONFIG, "annotations": {"a": "1", "b": "1"}}, annotations={"b": "2"})
    assert found.annotations == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("capabilities", "version", "privileged"),
    [
        ({"bounding": ["CAP_SYS_ADMIN"]}, "1.0.2", True),
        ({"bounding": ["CAP_CHOWN"], "effective": ["CAP_SYS_ADMIN"]}, "1.0.2", False),
        ({"bounding": ["cap_sys_admin"]}, "1.0.2", False),
        (["CAP_SYS_ADMIN"], "1.0.0-rc4", True),
        (["CAP_CHOWN"], "1.0.0-rc1", False),
    ],
)
def test_privileged_is_sys_admin_in_the_bounding_set(capabilities, version, privileged):
    config = {**CONFIG, "ociVersion": version, "process": {"capabilities": capabilities}}
    assert parsed(config).privileged is privileged


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "expected a JSON object"),
        ({"process": {}}, "has no root"),
        ({"root": {"path": "r"}}, "has no process"),
        ({**CONFIG, "process": {"env": [1]}}, "expected strings"),
        ({**CONFIG, "process": {"env": {}}}, "env: expected an array"),
        ({**CONFIG, "mounts": [1]}, "expected a JSON object"),
        ({**CONFIG, "linux": {"resources": {"devices": [{"major": "x"}]}}}, "major: expected an integer"),
        ({**CONFIG, "process": {"capabilities": ["CAP_SYS_ADMIN"]}}, "capabilities: expected an object"),
    ],
)
def test_configurations_of_another_shape_are_refused(config, why):
    with pytest.raises(InvalidInput, match=why):
        parsed(config)


def test_device_rules_keep_their_order_and_wildcards():
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": -1, "access": "r"}]
    deny, allow = parsed({**CONFIG, "linux": {"resources": {"devices": rules}}}).device_rules
    assert (deny.allow, deny.type, deny.major, deny.access) == (False, "a", None, "rwm")
    assert (allow.allow, allow.major, allow.minor, allow.access) == (True, 1, None, "r")


@pytest.mark.parametrize("pid", [0, -1, 1 << 30])
def test_numbers_that_name_no_process_are_refused(pid):
    with pytest.raises(InvalidInput, match="is not the number of a process"):
        check_process(pid)


def test_a_dead_process_is_refused():
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    with pytest.raises(InvalidInput, match="no such process"):
        check_process(child.pid)


def test_a_process_of_the_hosts_own_namespace_is_refused():
    with pytest.raises(InvalidInput, match="mount namespace of the host"):
        check_process(os.getpid())


def test_a_bundle_without_configuration_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        container.read_config(str(tmp_path))


def test_a_fifo_in_place_of_the_configuration_does_not_hold_the_hook_up(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InvalidInput, match="is empty"):
        bundle.read(str(tmp_path))
