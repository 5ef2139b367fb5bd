"""A user's own runtime, without an engine: as root of a user namespace it serves him, outside of one it says so."""

from __future__ import annotations

import json
import os

from tests.runtime import rootfs as images

USER = 4242


def as_user(host, directory, *command):
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    return host.call(*user, "env", f"XDG_RUNTIME_DIR={directory}", *command, check=False)


def bundle_of_user(directory, machine, simulated, root_outside, asks):
    root = images.copy(machine.image("debian"), directory / "rootfs")
    gpu, other = simulated.gpus()[:2]
    mounts: list[dict] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    mounts += [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}]
    ids = [{"containerID": 0, "hostID": root_outside, "size": 1}]
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user")]
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe", f"open={gpu.node}", f"open={other.node}", "dlopen=libcuda.so.1"],
            "env": ["PATH=/bin", asks],
            "cwd": "/",
        },
        "root": {"path": str(root)},
        "mounts": mounts,
        "linux": {"uidMappings": ids, "gidMappings": ids, "namespaces": namespaces},
    }
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    for each in (directory, path, root, *root.rglob("*")):
        os.chown(each, USER, USER, follow_symlinks=False)


def test_as_root_of_a_user_namespace_and_outside(front, machine, directory, simulated):
    run = (front.binary, "--root", directory / "state", "run", "--bundle", directory)

    bundle_of_user(directory, machine, simulated, 0, f"NVIDIA_VISIBLE_DEVICES={simulated.gpus()[0].index}")
    done = as_user(front.host, directory, "unshare", "--map-root-user", "--mount", *run, "inside")
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["ok"], each["value"]) for each in seen[:2]] == [(False, "ENXIO"), (False, "ENOENT")]  # simulated
    assert seen[2]["ok"], seen[2]

    bundle_of_user(directory, machine, simulated, USER, "OCI_GPU_COUNT=1")
    done = as_user(front.host, directory, *run, "outside")
    assert done.returncode
    assert "unshare -rm COMMAND [OGH1306]" in done.stderr
