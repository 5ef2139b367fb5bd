"""The known escapes from hooks that attach GPUs, each in its own shape, under real runtimes.

They are of NVIDIA's Container Toolkit (security bulletins 5582, 5585, 5599, 5659 and the advisories of its repository);
what each did wrong stands with it. None of them is a bug of this project; they are what it must never become.
"""

from __future__ import annotations

import os
import subprocess

from oci_gpu_hook.base.formats import ldcache
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference

COMPAT = "usr/local/cuda/compat"
LIBRARIES = images.LIBRARY_DIRECTORY["debian"]


def _is_contained(runtime, bundle, canary, tally) -> dict | None:
    """Run a hostile container; return what it saw, None where it was refused. The canary must be as it was."""
    canary.seal()
    before = contents(bundle.rootfs)
    result = runtime.run(bundle)
    tally.count()
    assert canary.is_untouched()
    assert difference(before, contents(bundle.rootfs)) == []
    if result.status:
        assert "internal error" not in result.complaint()
        return None
    seen = result.seen()
    assert str(canary.directory) not in seen["mountinfo"]
    return seen


def test_cve_2024_0132_compat_libraries_as_mount_sources(runtime, make_bundle, simulated, canary, tally):
    """Compat libraries of the image were bind-mounted: a link in their place mounted any file of the host."""
    (canary.directory / "libcuda.so.999.1").write_text("of the host")
    bundle = make_bundle("mountinfo", f"read=/{LIBRARIES}/libcuda.so.999.1", f"list=/{COMPAT}", gpus="all")
    compat = bundle.rootfs / COMPAT
    compat.mkdir(parents=True)
    (compat / "libcuda.so.999.1").symlink_to(canary.directory / "libcuda.so.999.1")
    (compat / "libcuda.so.999.2").symlink_to("../../../../../../../../../.." + str(canary.directory / "secret"))
    (compat / "libnvidia-ptxjitcompiler.so.999.1").symlink_to("/etc")
    seen = _is_contained(runtime, bundle, canary, tally)
    assert seen
    assert seen[f"read=/{LIBRARIES}/libcuda.so.999.1"] == "ENOENT"
    assert "so.999" not in seen["mountinfo"]


def test_cve_2025_23359_compat_directory_by_way_of_links(runtime, make_bundle, simulated, canary, tally):
    """The fix of the former looked at the last component only: a link further up led out all the same."""
    (canary.full("compat/libcuda.so.999.1") / "compat/libcuda.so.999.1").write_text("of the host")
    bundle = make_bundle("mountinfo", "list=/usr/local", gpus="all")
    local = bundle.rootfs / "usr/local"
    local.mkdir(parents=True, exist_ok=True)
    (local / "cuda").symlink_to(canary.directory / "full")
    seen = _is_contained(runtime, bundle, canary, tally)
    assert seen
    assert "so.999" not in seen["mountinfo"]


def test_cve_2024_0133_empty_files_on_the_host(runtime, make_bundle, simulated, canary, tally):
    """Mountpoints were made by path: a link in the library directory's place made empty files on the host."""
    for name, target in (("absolute", str(canary.bare)), ("relative", "../" * 30 + str(canary.bare).lstrip("/"))):
        bundle = make_bundle("mountinfo", gpus="all", image="empty", name=name)
        (bundle.rootfs / "usr").mkdir(exist_ok=True)
        (bundle.rootfs / "usr/lib64").symlink_to(target)
        _is_contained(runtime, bundle, canary, tally)
        assert list(canary.bare.iterdir()) == []


def test_cve_2024_0134_links_made_outside(runtime, make_bundle, simulated, canary, tally):
    """create-symlinks followed links of the image: the links it made lay on the host, or replaced what was there."""
    version = simulated.driver_version
    (canary.full("x/libcuda.so") / "x/libcuda.so.1").symlink_to("the-hosts-own")
    bundle = make_bundle("mountinfo", gpus="all")
    (bundle.rootfs / LIBRARIES / "libcuda.so").symlink_to(canary.directory / "full/x/libcuda.so")
    (bundle.rootfs / LIBRARIES / "libcuda.so.1").symlink_to(canary.directory / "full/x/libcuda.so.1")
    (bundle.rootfs / LIBRARIES / "libnvidia-ml.so.1").symlink_to(f"{canary.bare}/libnvidia-ml.so.{version}")
    assert _is_contained(runtime, bundle, canary, tally) is not None


def test_cve_2024_0135_to_0137_programs_of_the_rootfs(runtime, make_bundle, simulated, canary, tally):
    """ldconfig and others were run in, or out of, the image's root: the image's own took their place."""
    mark = canary.directory / "ran"
    bundle = make_bundle("mountinfo", gpus="all")
    for name in ("sbin/ldconfig", "sbin/ldconfig.real", "usr/bin/nvidia-modprobe", "usr/bin/nvidia-ctk"):
        program = bundle.rootfs / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {mark}\n")
        program.chmod(0o755)
    (bundle.rootfs / "etc/ld.so.conf").write_text(f"include {canary.directory}/*\n")
    (bundle.rootfs / "etc/ld.so.preload").write_text(f"{canary.directory}/secret\n")
    _is_contained(runtime, bundle, canary, tally)
    assert not mark.exists()


def test_cve_2024_0136_devices_that_were_not_asked_for(runtime, make_bundle, simulated, canary, tally):
    """An image got at devices of the host: its own nodes must open no GPU but the granted one."""
    other = simulated.gpus()[1]
    real = os.stat(simulated.dev / f"nvidia{other.minor}").st_rdev
    bundle = make_bundle("mountinfo", "open=/dev/nvidia0", "open=/tmp/other", "open=/dev/nvidia1", gpus="0")
    os.mknod(bundle.rootfs / "tmp/other", 0o20666, real)
    seen = _is_contained(runtime, bundle, canary, tally)
    assert seen
    assert (seen["open=/dev/nvidia0"], seen["open=/tmp/other"], seen["open=/dev/nvidia1"]) == (
        "ENXIO",
        "EPERM",
        "ENOENT",
    )


def test_cve_2025_23267_cache_by_way_of_links(runtime, make_bundle, simulated, canary, tally):
    """update-ldcache wrote through links of the image: /etc/ld.so.cache led to a file of the host."""
    for name, target in (("file", canary.directory / "secret"), ("empty", canary.directory / "empty")):
        bundle = make_bundle("mountinfo", gpus="all", name=name)
        (bundle.rootfs / "etc/ld.so.cache").unlink()
        (bundle.rootfs / "etc/ld.so.cache").symlink_to(target)
        assert _is_contained(runtime, bundle, canary, tally) is not None


def test_cve_2025_23267_cache_of_the_host(runtime, machine, make_bundle, simulated, canary, tally):
    """The same links read: what the host's cache says is nobody else's business."""
    libraries = canary.directory / "lib"
    libraries.mkdir()
    secret = ldcache.Entry(
        name="libsecret.so.1", path=f"{libraries}/libsecret.so.1", flags=ldcache.flags_for(images.MACHINE, 64)
    )
    (canary.directory / "cache").write_bytes(ldcache.build([secret]))
    for name, target in (("absolute", canary.directory / "cache"), ("magic", f"/proc/1/root{canary.directory}/cache")):
        bundle = make_bundle("mountinfo", "dlopen=libcuda.so.1", gpus="all", name=name)
        (bundle.rootfs / "etc/ld.so.cache").unlink()
        (bundle.rootfs / "etc/ld.so.cache").symlink_to(target)
        bundle.config["process"]["args"].append("read=/etc/ld.so.cache")
        seen = _is_contained(runtime, bundle, canary, tally)
        assert (seen is None) == (name == "magic")
        assert seen is None or "libsecret" not in seen["read=/etc/ld.so.cache"]


def test_cve_2025_23267_cache_directory_on_an_overlay(runc, machine, make_bundle, simulated, directory, canary, tally):
    """On an overlay the cache is exchanged in place; what is in its way is the image's to lay, and stays its own."""
    upper, work, merged = (directory / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir()
    (upper / "etc").mkdir()
    (upper / "etc/.ld.so.cache.oci-gpu-hook").symlink_to(canary.directory / "secret")
    (upper / "etc/ld.so.cache").symlink_to(f"/{LIBRARIES}/../../../etc/elsewhere/cache")
    (upper / "etc/elsewhere").mkdir()
    subprocess.run(["cp", machine.image("debian") / "etc/ld.so.cache", upper / "etc/elsewhere/cache"], check=True)
    layers = f"lowerdir={machine.image('debian')},upperdir={upper},workdir={work}"
    runc.host.call("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    canary.seal()
    try:
        bundle = make_bundle("dlopen=libcuda.so.1", gpus="0", rootfs=str(merged))
        assert runc.run(bundle).seen()["dlopen=libcuda.so.1"].startswith("/")
        tally.count()
    finally:
        runc.host.call("umount", merged)


def test_cve_2019_16884_mounts_over_the_process_confinement(runtime, make_bundle, simulated, canary, tally):
    """Of runc, and again CVE-2025-52881: what covers /proc/PID/attr takes the container's confinement away."""
    for name, target in (("attr", "/proc/1/attr/exec"), ("sys", "/proc/sys/kernel/core_pattern")):
        bundle = make_bundle("mountinfo", gpus="all", name=name)
        (bundle.rootfs / "usr/bin/nvidia-smi").symlink_to(target)
        canary.seal()
        assert "the kernel's files" in runtime.run(bundle).complaint()
        tally.count()


def test_mounts_over_the_whole_rootfs(runtime, make_bundle, simulated, canary, tally):
    """A directory of the hook's that the image led to / would stand in the place of the container's root."""
    bundle = make_bundle("mountinfo", env=("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"))
    (bundle.rootfs / "etc/nvidia").mkdir()
    (bundle.rootfs / "etc/nvidia/nvidia-application-profiles-rc.d").symlink_to("/")
    canary.seal()
    assert "leads to the root directory" in runtime.run(bundle).complaint()
    tally.count()
