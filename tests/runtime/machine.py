"""What this machine offers to the tests, found by doing: one small container in each variant, once a session."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

from tests.runtime import bundle, rootfs
from tests.runtime.host import Host
from tests.runtime.runtimes import Runtime

# name → executable, cgroup layout of its host. crun refuses a hybrid hierarchy, hence its own layout.
VARIANTS = {
    "runc-v1": ("runc", "v1"),
    "runc-v2": ("runc", "v2"),
    "crun-v1": ("crun", "v1-only"),
    "crun-v2": ("crun", "v2"),
}
_TOOLS = ("gcc", "musl-gcc", "busybox", "ldconfig", "unshare", "nsenter")


class Machine:
    """The work directory of this session, its hosts and the runtimes that work on them.

    `unavailable` says, for each variant that does not work here, why.
    """

    def __init__(self) -> None:
        # A directory that user-namespaced containers may walk through, which pytest's own is not.
        self.work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-test-", dir="/var/tmp"))
        self.work.chmod(0o755)
        self.cache = self.work / "images"
        self.cache.mkdir()
        self.hosts: dict[str, Host] = {}
        self.runtimes: dict[str, Runtime] = {}
        self.unavailable: dict[str, str] = {}
        for name, (binary, layout) in VARIANTS.items():
            try:
                runtime = self._runtime(name, binary, layout)
                self._try(runtime)
            except (RuntimeError, OSError, AssertionError) as error:
                self.unavailable[name] = " ".join(str(error).split())[:300]
            else:
                self.runtimes[name] = runtime

    def image(self, variant: str) -> Path:
        return rootfs.build(variant, self.cache)

    def close(self) -> None:
        for host in self.hosts.values():
            host.remove_cgroups(_cgroup().strip("/"))
            host.close()
        shutil.rmtree(self.work)

    def _runtime(self, name: str, binary: str, layout: str) -> Runtime:
        found = shutil.which(binary)
        if not found:
            raise RuntimeError(f"{binary} is not installed")
        if layout not in self.hosts:
            self.hosts[layout] = Host(self.work, layout)
        state_dir = self.work / name
        return Runtime(name, found, self.hosts[layout], state_dir, _cgroup())

    def _try(self, runtime: Runtime) -> None:
        directory = self.work / f"try-{runtime.name}"
        directory.mkdir()
        rootfs.copy(self.image("empty"), directory / "rootfs")
        result = runtime.run(bundle.make(directory, ["/probe", "list=/"]))
        if result.status:
            raise RuntimeError(result.stderr)


def _cgroup() -> str:
    return f"/oci-gpu-hook-test-{os.getpid()}"


def missing() -> str:
    """Say what keeps this machine from running any container; "" when nothing does."""
    if os.geteuid() != 0:
        return "needs root (mounts, device nodes, cgroups); run: sudo make test"
    absent = [tool for tool in _TOOLS if not shutil.which(tool)]
    return f"not installed: {' '.join(absent)}; run: make test, as root" if absent else ""


@functools.cache
def this() -> Machine:
    """Return the session's machine, made at its first use. Ask `missing` first."""
    return Machine()


def close() -> None:
    """Undo `this`, where it was used."""
    if this.cache_info().currsize:
        this().close()
        this.cache_clear()
