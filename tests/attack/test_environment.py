"""The environment and the directory that a hook is started in belong to whoever wrote the image (CVE-2025-23266)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.attack.sandbox import Outcome
from tests.runtime import rootfs as images

# Whatever is run, loaded or imported from the rootfs leaves this file on the host.
_CONSTRUCTOR = """
#include <fcntl.h>
__attribute__((constructor)) static void pwn(void) { open("%(mark)s", O_WRONLY | O_CREAT, 0600); }
unsigned int la_version(unsigned int version) { pwn(); return version; }
"""
_MODULES = ("json", "os", "sys", "errno", "encodings", "codecs", "site", "sitecustomize", "usercustomize", "ctypes")
_PROGRAMS = ("python3", "sh", "env", "ldconfig", "oci-gpu-hook", "nvidia-smi")


@pytest.fixture(scope="session")
def hostile(machine):
    """An image whose every file runs if it is touched the wrong way; `.mark` is what then appears on the host."""
    directory = machine.work / "hostile"
    directory.mkdir()
    mark = directory / "pwned"
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    source = directory / "pwn.c"
    source.write_text(_CONSTRUCTOR % {"mark": mark})
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", rootfs / "pwn.so", source], check=True)
    code = f"open({str(mark)!r}, 'w')\n"
    for name in _MODULES:
        (rootfs / f"{name}.py").write_text(code)
    (rootfs / "encodings").mkdir()
    (rootfs / "encodings/__init__.py").write_text(code)
    (rootfs / "oci_gpu_hook").mkdir()
    (rootfs / "oci_gpu_hook/__init__.py").write_text(code)
    (rootfs / "pyvenv.cfg").write_text(f"home = {rootfs}\n")
    for name in _PROGRAMS:
        (rootfs / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (rootfs / name).chmod(0o755)
    return rootfs, mark


def environments(rootfs, *, stub: bool) -> dict[str, dict[str, str]]:
    """Return hostile environments; what the loader obeys before any program runs is for the front alone to stop."""
    library = "/proc/self/cwd/pwn.so"
    found = {
        "PYTHONPATH": {"PYTHONPATH": str(rootfs)},
        "PYTHONPATH of the cwd": {"PYTHONPATH": ".:/proc/self/cwd"},
        "PYTHONHOME": {"PYTHONHOME": str(rootfs)},
        "PYTHONSTARTUP": {"PYTHONSTARTUP": str(rootfs / "os.py"), "PYTHONINSPECT": "1"},
        "PYTHONUSERBASE": {"PYTHONUSERBASE": str(rootfs), "HOME": str(rootfs)},
        "PYTHONBREAKPOINT": {"PYTHONBREAKPOINT": "sitecustomize.x", "PYTHONWARNINGS": "error::site.X"},
        "PYTHONPLATLIBDIR": {"PYTHONPLATLIBDIR": str(rootfs), "PYTHONEXECUTABLE": str(rootfs / "python3")},
        "__PYVENV_LAUNCHER__": {"__PYVENV_LAUNCHER__": str(rootfs / "python3")},
        "PATH": {"PATH": f"{rootfs}:."},
        "IFS and ENV": {"ENV": str(rootfs / "sh"), "BASH_ENV": str(rootfs / "sh"), "IFS": "/"},
        "locale and gettext": {"LANG": "xx", "LOCPATH": str(rootfs), "NLSPATH": str(rootfs), "LANGUAGE": "../"},
        "iconv": {"GCONV_PATH": str(rootfs), "PYTHONIOENCODING": "pwn"},
    }
    if not stub:
        found |= {
            "LD_PRELOAD": {"LD_PRELOAD": library},
            "LD_PRELOAD of the rootfs": {"LD_PRELOAD": str(rootfs / "pwn.so")},
            "LD_AUDIT": {"LD_AUDIT": library},
            "LD_LIBRARY_PATH": {"LD_LIBRARY_PATH": f".:{rootfs}"},
            "GLIBC_TUNABLES": {"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.mem.tagging=1"},
        }
    return found


CASES = [
    pytest.param(door, name, id=f"{door}: {name}")
    for door in ("front", "stub")
    for name in environments(Path(), stub=door == "stub")
]


@pytest.mark.parametrize(("door", "name"), CASES)
def test_nothing_of_the_image_runs(door, name, hostile, hook, enter, tally):
    rootfs, mark = hostile
    executable = [str(hook)]
    if door == "stub":
        executable = ["/usr/bin/python3", "-ISBXutf8", f"{hook}.py"]
    elif not _is_elf(hook):
        pytest.skip("the static front was not built: no C compiler")
    with enter(rootfs) as sandbox:
        # cwd is the rootfs, as in runc's createContainer; nsenter would change it.
        arguments = [*executable, "--config", str(sandbox.simulated.config), "prestart"]
        done = subprocess.run(
            sandbox.host.command("env", "-i", f"--chdir={rootfs}", "--", *_assigned(rootfs, door, name), *arguments),
            input=sandbox.state(),
            capture_output=True,
            check=False,
            timeout=30,
        )
        outcome = Outcome.of(done.returncode, done.stdout.decode(), done.stderr.decode())
        tally.count(outcome)
        assert outcome.refused == ""
        tally.escapes += mark.exists()
        assert not mark.exists()
    assert sandbox.release().refused == ""


def _assigned(rootfs, door: str, name: str) -> list[str]:
    return [f"{key}={value}" for key, value in environments(rootfs, stub=door == "stub")[name].items()]


def _is_elf(path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
@pytest.mark.parametrize("explicit", [True, False], ids=["with-env", "without-env"])
def test_the_environment_of_the_container_under_runc(stage, explicit, runc, make_bundle, hostile, tally):
    """CVE-2025-23266: LD_PRELOAD in the image's environment, with and without an `env` in the hook's entry."""
    rootfs, mark = hostile
    # The mark lies on the host: the container's own process, which may run whatever it likes, cannot reach it.
    env = ("LD_PRELOAD=/proc/self/cwd/pwn.so", f"PYTHONPATH={rootfs}", f"PYTHONHOME={rootfs}")
    bundle = make_bundle("open=/dev/nvidia0", gpus="0", stage=stage, env=env, rootfs=str(rootfs))
    if not explicit:
        for entries in bundle.config["hooks"].values():
            for entry in entries:
                del entry["env"]
    assert runc.run(bundle).seen()["open=/dev/nvidia0"] == "ENXIO"
    tally.count()
    tally.escapes += mark.exists()
    assert not mark.exists()


def test_standard_descriptors_that_are_closed(enter, machine, directory, hook, tally):
    """With 0, 1 and 2 free, what the hook opens would take their numbers, and its words would go there."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    for closing in ("1>&-", "2>&-", "1>&- 2>&-"):
        with enter(rootfs) as sandbox:
            before = sandbox.simulated.config.read_bytes()
            command = f"exec {' '.join(sandbox.command('prestart'))} {closing}"
            done = subprocess.run(["sh", "-c", command], input=sandbox.state(), capture_output=True, check=False)
            tally.count()
            assert done.returncode == 0, closing
            assert sandbox.path("/dev/nvidia0").is_char_device()
            assert sandbox.simulated.config.read_bytes() == before
        assert sandbox.release().refused == ""


def test_the_container_gets_no_descriptor_and_no_mount_of_the_host(runc, make_bundle, simulated, tally):
    quiet = runc.run(make_bundle("fds", "mountinfo", name="quiet")).seen()
    seen = runc.run(make_bundle("fds", "mountinfo", gpus="all", name="asking")).seen()
    tally.count()
    assert len(seen["fds"]) == len(quiet["fds"])
    points = [line.split()[4] for line in seen["mountinfo"].splitlines()]
    added = set(points) - {line.split()[4] for line in quiet["mountinfo"].splitlines()}
    shown = [line.split() for line in seen["mountinfo"].splitlines() if line.split()[4] in added]
    base = simulated.directory.name
    for fields in shown:
        if fields[4] == "/etc/ld.so.cache":  # in a file system of its own, where the kernel has it (Linux 6.15)
            is_own = fields[3] == "/ld.so.cache" and fields[fields.index("-") + 1] == "tmpfs"
            assert is_own or f"/{base}/" in fields[3], fields
            devices = [line.split()[2] for line in seen["mountinfo"].splitlines()]
            assert devices.count(fields[2]) == 1 or not is_own, "the file system is not its own"
        else:
            assert fields[3] == "/" or f"/{base}/" in fields[3], fields
        if "/dev/" not in fields[4]:
            assert {"ro", "nosuid", "nodev"} <= set(fields[5].split(",")), fields
        assert not [option for option in fields[6:] if option.startswith("shared:")], fields
