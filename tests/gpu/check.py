"""Proof on a host with real NVIDIA GPUs: containers under runc, with the hook, from an image without driver files.

    python3 tests/gpu/check.py [--runc PATH] [--torch-python PATH]

Needs root, runc and an NVIDIA driver. The image is the host's own root directory under an overlay, with every driver
file and link removed, so that what the host has for CUDA programs (PyTorch) runs in the container. Prints each command
and what it answered; exits with 1 when an expectation fails. docs/gpu-evidence.md keeps what it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.runtime import cdi_engine

TORCH = (
    "import torch; n = torch.cuda.device_count(); a = torch.rand(4096, 4096, device='cuda'); b = a @ a; "
    "e = ((b.double() - a.double() @ a.double()).norm() / b.double().norm()).item(); "
    "print(f'torch {torch.__version__}: {n} GPU(s), {torch.cuda.get_device_name(0)}, matmul error {e:.1e}'); "
    "assert e < 1e-2"
)
OPEN = """
import errno, os, sys
def attempt(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "opens"
os.makedirs("/tmp/n")
for minor in map(int, sys.argv[1:]):
    own = f"/tmp/n/{minor}"
    os.mknod(own, 0o20666, os.makedev(195, minor))
    print(f"/dev/nvidia{minor}", os.path.exists(f"/dev/nvidia{minor}"), "own node", attempt(own))
"""
# Asks EGL's device platform (no display, no X) who the vendor is: that needs libEGL_nvidia and its vendor file.
EGL = """
import ctypes
egl = ctypes.CDLL("libEGL.so.1")
egl.eglGetProcAddress.restype = ctypes.c_void_p
def function(name, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(egl.eglGetProcAddress(name))
devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
query = function(b"eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
assert query(16, devices, ctypes.byref(count))
display = function(b"eglGetPlatformDisplayEXT", ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
egl.eglQueryString.restype = ctypes.c_char_p
for device in devices[: count.value]:
    found = ctypes.c_void_p(display(0x313F, device, None))
    if egl.eglInitialize(found, None, None):
        print("EGL:", egl.eglQueryString(found, 0x3053).decode(), egl.eglQueryString(found, 0x3054).decode())
"""
# Counts Vulkan's physical devices and names them: that needs the ICD's JSON file and libGLX_nvidia.
VULKAN = """
import ctypes, struct
vk = ctypes.CDLL("libvulkan.so.1")
info = ctypes.create_string_buffer(struct.pack("IxxxxQIxxxxQIxxxxQIxxxxQ", 1, 0, 0, 0, 0, 0, 0, 0))
instance = ctypes.c_void_p()
assert vk.vkCreateInstance(info, None, ctypes.byref(instance)) == 0
count = ctypes.c_uint()
vk.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
devices = (ctypes.c_void_p * count.value)()
vk.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
for device in devices:
    properties = ctypes.create_string_buffer(4096)
    vk.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
    print("Vulkan:", properties.raw[20:276].split(b"\\0")[0].decode())
"""
failures: list[str] = []


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of what each of these scripts is told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runc", default=shutil.which("runc"))
    parser.add_argument("--torch-python", default=shutil.which("python3"), help="interpreter that has PyTorch")
    return parser


@contextmanager
def work_directory(prefix: str) -> Iterator[Path]:
    """Give a directory in memory, with all that was mounted below it until the end."""
    work = Path(tempfile.mkdtemp(prefix=prefix, dir="/dev/shm"))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)
    try:
        yield work
    finally:
        subprocess.run(["umount", "-l", work], check=True)
        work.rmdir()


def outcome() -> int:
    """Say which expectations have failed; return the exit status."""
    print(f"\n{len(failures)} failures" + "".join(f"\n- {f}" for f in failures))
    return 1 if failures else 0


def main() -> int:
    options = arguments(__doc__).parse_args()
    with work_directory("gpu-check-") as work:
        host = Host(work, options)
        host.describe()
        host.check_one_gpu()
        host.check_all()
        host.check_neighbour()
        host.check_graphics()
        host.check_cdi()
    return outcome()


class Host:
    def __init__(self, work: Path, options: argparse.Namespace, count: int | None = None) -> None:
        self.work = work
        self.options = options
        self.count = len(list(Path("/proc/driver/nvidia/gpus").iterdir())) if count is None else count
        command = [
            sys.executable,
            "-m",
            "oci_gpu_hook.admin.cli.main",
            "hook-path",
            "--directory",
            str(work / "libexec"),
        ]
        laid = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
        self.hook = laid.stdout.strip()
        self.number = 0

    def describe(self) -> None:
        show("host", ["uname", "-rm"])
        show("host", ["sh", "-c", "cat /proc/driver/nvidia/version; ls /dev/nvidia*; nvidia-smi -L"])
        show("host", [self.options.runc, "--version"])

    def check_one_gpu(self) -> None:
        out = self.container(["nvidia-smi", "-L"], "NVIDIA_VISIBLE_DEVICES=0")
        expect("nvidia-smi lists one GPU", out.count("GPU ") == 1 and out.startswith("GPU 0"))
        out = self.container(["cat", "/proc/driver/nvidia/params"], "NVIDIA_VISIBLE_DEVICES=0", quiet=True)
        expect("device files are not the driver's to make", "ModifyDeviceFiles: 0" in out)
        out = self.container(
            ["sh", "-c", "ldconfig -p | grep -c -e libcuda.so -e libnvidia-ml"], "NVIDIA_VISIBLE_DEVICES=0"
        )
        expect("the ld cache has the driver's libraries", out.strip() not in ("", "0"))
        out = self.container([self.options.torch_python, "-c", TORCH], "NVIDIA_VISIBLE_DEVICES=0")
        expect("PyTorch computes on the GPU", "1 GPU(s)" in out)

    def check_all(self) -> None:
        out = self.container(["nvidia-smi"], "NVIDIA_VISIBLE_DEVICES=all")
        expect("nvidia-smi sees the driver", "Driver Version" in out)
        out = self.container([self.options.torch_python, "-c", TORCH], "NVIDIA_VISIBLE_DEVICES=all")
        expect(f"PyTorch sees {self.count} GPUs", f"{self.count} GPU(s)" in out)
        out = self.container(["sh", "-c", "nvidia-smi -L; ls /dev/nvidia*; true"], "PLAIN=1", status=None)
        expect("a container that asks for nothing gets nothing", "GPU 0" not in out and "/dev/nvidia0" not in out)

    def check_neighbour(self) -> None:
        minors = [str(n) for n in range(self.count)]
        for minor in minors:
            out = self.container(
                ["/usr/bin/python3", "-c", OPEN, *minors],
                f"NVIDIA_VISIBLE_DEVICES={minor}",
                capabilities=("CAP_MKNOD",),
            )
            for line in out.splitlines():
                path, there, _, _, answer = line.split()
                granted = path == f"/dev/nvidia{minor}"
                expect(
                    f"GPU {minor} granted: {path} {answer}", (there == "True", answer == "opens") == (granted, granted)
                )
            out = self.container(["nvidia-smi", "-L"], f"NVIDIA_VISIBLE_DEVICES={minor}")
            expect(f"nvidia-smi lists GPU {minor} alone", out.count("UUID") == 1)

    def check_graphics(self) -> None:
        """Run what the loaders on this host allow; the loaders themselves are no part of the driver."""
        everything = "NVIDIA_DRIVER_CAPABILITIES=all"
        known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
        for library, program, answer in (
            ("libEGL.so.1", EGL, "EGL: NVIDIA"),
            ("libvulkan.so.1", VULKAN, "Vulkan: NVIDIA"),
        ):
            if f"{library} " not in known:
                print(f"\nnot tried: the host has no {library}")
                continue
            out = self.container(["/usr/bin/python3", "-c", program], "NVIDIA_VISIBLE_DEVICES=0", everything)
            expect(f"{library} finds the driver", answer in out)

    def check_cdi(self) -> None:
        """Run containers that are given GPUs by our CDI specification, with no hook of ours registered but its own."""
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "cdi", "generate", "--format", "json"]
        made = subprocess.run(
            [*command, "--hook-path", self.hook], check=True, capture_output=True, text=True, cwd=REPOSITORY
        )
        self.specification = json.loads(made.stdout)
        names = [device["name"] for device in self.specification["devices"]]
        print(f"\nCDI {self.specification['cdiVersion']}: {' '.join(names)}")
        for index in range(self.count):
            out = self.container(["nvidia-smi", "-L"], devices=(str(index),))
            expect(f"CDI: nvidia-smi lists GPU {index} alone", out.count("UUID") == 1)
        out = self.container(["cat", "/proc/driver/nvidia/params"], devices=("all",), quiet=True)
        expect("CDI: device files are not the driver's to make", "ModifyDeviceFiles: 0" in out)
        out = self.container([self.options.torch_python, "-c", TORCH], devices=("all",))
        expect(f"CDI: PyTorch computes on {self.count} GPUs", f"{self.count} GPU(s)" in out)
        out = self.container(["sh", "-c", "nvidia-smi -L; ls /dev/nvidia*; true"], "PLAIN=1", status=None)
        expect("CDI: nothing is left for the next container", "GPU 0" not in out and "/dev/nvidia0" not in out)

    def container(self, args, *env, status: int | None = 0, quiet=False, capabilities=(), devices=()) -> str:
        self.number += 1
        bundle = self.work / f"bundle{self.number}"
        rootfs = self.rootfs(bundle)
        config = self.config(rootfs, args, env, capabilities)
        if devices:
            del config["hooks"]
            cdi_engine.apply(self.specification, devices, config)
            env = (*env, *(f"nvidia.com/gpu={name}" for name in devices))
        (bundle / "config.json").write_text(json.dumps(config))
        command = [
            self.options.runc,
            "--root",
            self.work / "runc",
            "run",
            "--bundle",
            bundle,
            f"check{os.getpid()}-{self.number}",
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL
            )
        finally:
            subprocess.run(["umount", "-l", rootfs], check=True)
        if not quiet:
            print(
                f"\n$ container {' '.join(env)}: {' '.join(map(str, args))[:200]}\n{done.stdout}{done.stderr}".rstrip(),
                flush=True,
            )
        if status is not None:
            expect(f"exit status {done.returncode} of {args[0]}", done.returncode == status)
        return done.stdout

    def rootfs(self, bundle: Path) -> Path:
        """Return the host's root directory without a trace of the driver."""
        for name in ("upper", "work", "rootfs"):
            (bundle / name).mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={bundle}/upper,workdir={bundle}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, bundle / "rootfs"], check=True)
        for directory in ("usr/lib", "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/bin"):
            where = bundle / "rootfs" / directory
            for entry in os.scandir(where) if where.is_dir() else ():
                if is_of_driver(Path(entry.path)):
                    os.unlink(entry.path)
        (bundle / "upper/etc").mkdir(exist_ok=True)
        for name in os.listdir("/etc/ld.so.conf.d"):
            if "nvidia" in Path("/etc/ld.so.conf.d", name).read_text():
                (bundle / "rootfs/etc/ld.so.conf.d" / name).unlink()
        subprocess.run(["ldconfig", "-r", bundle / "rootfs"], check=True, capture_output=True)
        return bundle / "rootfs"

    def config(self, rootfs: Path, args, env: tuple[str, ...], capabilities) -> dict:
        hook = {"path": self.hook, "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
        quiet = ["nosuid", "noexec", "nodev"]
        held = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", *capabilities]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "args": [str(a) for a in args],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", *env],
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
                "noNewPrivileges": True,
            },
            "root": {"path": str(rootfs), "readonly": False},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {
                    "destination": "/dev/shm",
                    "type": "tmpfs",
                    "source": "shm",
                    "options": ["nosuid", "nodev", "mode=1777"],
                },
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            ],
            "hooks": {
                "prestart": [{**hook, "args": ["oci-gpu-hook", "prestart"]}],
                "poststop": [{**hook, "args": ["oci-gpu-hook", "poststop"]}],
            },
            "linux": {
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }


def is_of_driver(path: Path) -> bool:
    if path.is_symlink():
        return "nvidia" in os.readlink(path)
    name = path.name
    return stat.S_ISREG(path.lstat().st_mode) and (".so.580" in name or name.startswith(("nvidia-smi", "libcuda.so")))


def show(where: str, command: list) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"$ {where}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}".rstrip(), flush=True)


def expect(what: str, holds: bool) -> None:
    print(("ok: " if holds else "FAILED: ") + what, flush=True)
    if not holds:
        failures.append(what)


if __name__ == "__main__":
    sys.exit(main())
