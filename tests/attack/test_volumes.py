"""Files that the user brings from the host: the hook makes, changes and removes nothing in them.

A volume can stand where the hook has to make something, or the image can lead there by a link.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.runtime import rootfs as images

LIBRARIES = images.LIBRARY_DIRECTORY["debian"]


def bind(source, destination: str, *options: str) -> dict:
    return {
        "destination": destination,
        "source": str(source),
        "type": "bind",
        "options": [*(options or ("rbind",)), "rprivate"],
    }


@pytest.fixture
def volume(canary):
    """A directory of the host with what people keep in such places."""
    path = canary.directory / "volume"
    path.mkdir()
    (path / "libcuda.so.1").symlink_to("a-link-of-the-hosts-own")
    (path / "nvidia-smi").symlink_to("dangling")
    (path / "data").write_text("of the host")
    (path / "nvidia-caps").mkdir()
    return path


@pytest.mark.parametrize("destination", [f"/{LIBRARIES}", "/usr/bin", "/usr/lib", "/etc", "/lib/firmware", "/var"])
def test_a_volume_where_the_driver_goes(runtime, make_bundle, simulated, machine, volume, canary, tally, destination):
    bundle = make_bundle(
        "open=/dev/nvidia0", gpus="all", mounts=(bind(volume, destination),), env=("NVIDIA_DRIVER_CAPABILITIES=all",)
    )
    (bundle.rootfs / destination.strip("/")).mkdir(parents=True, exist_ok=True)
    (bundle.rootfs / "probe").write_bytes((machine.image("empty") / "probe").read_bytes())
    canary.seal()
    result = runtime.run(bundle)
    tally.count()
    assert canary.is_untouched()
    if result.status:
        assert "is a volume of the host" in result.complaint()
    else:
        assert result.seen()["open=/dev/nvidia0"] == "ENXIO"


@pytest.mark.parametrize("options", [("rbind",), ("bind",), ("rbind", "ro")], ids=" ".join)
def test_the_hosts_dev_as_a_volume(runtime, make_bundle, simulated, volume, canary, tally, options):
    """Nodes made there would be made on the host, and stay."""
    bundle = make_bundle("list=/", gpus="all", mounts=(bind(volume, "/dev", *options),))
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev/")]
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"):  # runtimes make those themselves
        (volume / name).touch()
    for name in ("fd", "stdin", "stdout", "stderr", "core"):
        (volume / name).symlink_to("x")
    for name in ("pts", "shm", "mqueue", "console"):
        (volume / name).mkdir()
    quiet = make_bundle("list=/", mounts=(bind(volume, "/dev", *options),), name="quiet")
    quiet.config["mounts"] = bundle.config["mounts"]
    runtime.run(quiet)  # what the runtime itself makes there is not the hook's
    canary.seal()
    result = runtime.run(bundle)
    tally.count()
    assert canary.is_untouched()
    assert result.status != 0


@pytest.mark.parametrize("link", [LIBRARIES, "usr/bin", "etc/vulkan", "usr/local/nvidia"])
def test_a_link_into_a_volume(runtime, make_bundle, simulated, machine, volume, canary, tally, link):
    """config.json says /data; the image's link makes it the place of the driver's libraries."""
    bundle = make_bundle("list=/", gpus="all", mounts=(bind(volume, "/data"),), env=("NVIDIA_DRIVER_CAPABILITIES=all",))
    at = bundle.rootfs / link
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.is_dir():
        at.rename(bundle.rootfs / "was-here")
    at.symlink_to("/data")
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "probe").write_bytes((machine.image("empty") / "probe").read_bytes())
    canary.seal()
    result = runtime.run(bundle)
    tally.count()
    assert canary.is_untouched()
    if result.status:
        assert "is a volume of the host" in result.complaint()


@pytest.mark.parametrize("system", ["tmpfs", "bind"])
def test_a_link_into_a_submount_of_a_volume(runc, make_bundle, simulated, machine, volume, canary, tally, system):
    """A recursive bind brings mounts along that config.json does not name."""
    below = volume / "below"
    below.mkdir()
    source = ["-t", "tmpfs", "none"] if system == "tmpfs" else ["--bind", canary.bare]
    runc.host.call("mount", *source, below)
    try:
        bundle = make_bundle("list=/", gpus="all", mounts=(bind(volume, "/data"),))
        (bundle.rootfs / "usr/bin").rename(bundle.rootfs / "usr/was-bin")
        (bundle.rootfs / "usr/bin").symlink_to("/data/below")
        (bundle.rootfs / "data").mkdir()
        (bundle.rootfs / "probe").write_bytes((machine.image("empty") / "probe").read_bytes())
        canary.seal()
        result = runc.run(bundle)
        tally.count()
        assert "data" in result.seen()["list=/"], "it starts without the programs"
        assert list(runc.host.path(below).iterdir()) == []
        assert canary.is_untouched()
    finally:
        runc.host.call("umount", below)


def test_a_volume_is_left_alone_when_the_container_has_ended(runc, make_bundle, simulated, volume, canary, tally):
    """A container that leads the cleanup astray: its own directory gives way to a link while it runs."""
    bundle = make_bundle(
        args=("/bin/sh", "-c", f"busybox mv /{LIBRARIES} /gone; busybox ln -s /data /{LIBRARIES}"),
        gpus="all",
        mounts=(bind(volume, "/data"),),
    )
    (bundle.rootfs / "data").mkdir()
    (volume / f"libcuda.so.{simulated.driver_version}").touch()
    canary.seal()
    result = runc.run(bundle)
    tally.count()
    assert "oci-gpu-hook" not in result.stderr
    assert canary.is_untouched()


def test_a_bound_node_cannot_be_changed(enter, machine, simulated, directory, tally):
    """Where a node must be the host's own (/dev is nodev), root in the container may neither chmod nor chown it."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    node = simulated.dev / "nvidia0"
    before = node.stat()
    with enter(rootfs, "proc", "nodev") as sandbox:
        assert sandbox.attach().refused == ""
        for change in (("chmod", "0600"), ("chown", "7:7")):
            command = ["nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", *change, str(rootfs / "dev/nvidia0")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            tally.count()
            assert "Read-only file system" in done.stderr
    after = node.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    assert sandbox.release().refused == ""
