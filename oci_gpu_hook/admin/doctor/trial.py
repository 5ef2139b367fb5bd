"""The trial: starts a container that asks for a GPU under each OCI runtime of this host, and reports what it got."""

from __future__ import annotations

import os
import shutil  # noqa: TID253
import tempfile  # noqa: TID253
import time

from oci_gpu_hook.admin.doctor import tiny
from oci_gpu_hook.admin.doctor.model import ERROR, OK, WARNING, Finding, Host
from oci_gpu_hook.admin.install import executables
from oci_gpu_hook.admin.install.place import installed_directory
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.cdi.devices import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Gpu

_NAME: Final = "trial"
_UNKNOWN: Final = "whether a container gets its GPU is not known"
_PLACES: Final = ("/var/tmp", "/var/lib", "/run", "/root")  # noqa: S108  a directory in it is made by mkdtemp
_RUNTIMES: Final = ("runc", "crun")
# Only built-in commands of the shell. A node that opens prints nothing; one without a driver, as on a simulated host,
# prints "No such device or address"; one that the device cgroup refuses prints "Operation not permitted".
_SCRIPT: Final = r"""
nvidia-smi -L
for node in /dev/nvidia0 /dev/nvidia[1-9]* /dev/nvidiactl /dev/dxg /dev/nvmap /dev/kfd /dev/dri/[cr]*; do
    [ -e "$node" ] && echo "node $node" && (: <"$node") 2>&1
done
true
"""


class Other(Record):
    """A device of another vendor, by its qualified name, and the nodes of it alone."""

    name: str
    nodes: tuple[str, ...]


def check(host: Host) -> Iterator[Finding]:
    """Start the containers, and remove them and all that was made for them."""
    others = [other for kind in vendors.SEEN if (other := _first_of(kind, host))]
    if os.geteuid() != 0 or not (_working(host) or others):
        needs, remedy = "a GPU that works", "correct what is wrong first"
        if os.geteuid() != 0:
            needs, remedy = "root", "run as root: sudo oci-gpu doctor --run"
        yield _not_run(f"that needs {needs}", remedy)
        return
    runtimes = [path for name in _RUNTIMES if (path := shutil.which(name))]
    if not runtimes:
        yield _not_run("neither runc nor crun is on PATH", "install runc (apt install runc)")
        return
    place = next((place for place in _PLACES if _can_run_programs(place)), tempfile.gettempdir())
    work = tempfile.mkdtemp(prefix="oci-gpu-doctor-", dir=place)
    try:
        tiny.make_rootfs(f"{work}/rootfs")
        hook = os.path.join(installed_directory(), "oci-gpu-hook")
        if not os.path.exists(hook):
            hook = executables.write(f"{work}/libexec").hook
        for runtime in runtimes:
            if _working(host):
                yield _try(host, runtime, work, hook)
            for other in others:
                yield _try(host, runtime, work, hook, other)
    finally:
        shutil.rmtree(work)


def _not_run(why: str, remedy: str) -> Finding:
    """Warn that there was no trial: it was asked for, so without it not all is known to be well."""
    return Finding(check=_NAME, severity=WARNING, what=f"no container was started: {why}", why=_UNKNOWN, remedy=remedy)


def _first_of(kind: str, host: Host) -> Other | None:
    """Return a device of a kind that the kernel describes, None if the host has none that works."""
    inventory = vendors.seen(kind, host.config)
    devices = vendors.of(kind).devices(inventory, host.config) if inventory else ()
    for device in devices:
        if not device.fault:
            return Other(
                name=device.label, nodes=tuple(node.path for node in native(device).described[0].edits.device_nodes)
            )
    return None


def _try(host: Host, runtime: str, work: str, hook: str, other: Other | None = None) -> Finding:
    asking = [f"OCI_GPU_DEVICES={other.name}"] if other else _asking(host)
    script = tiny.config_json(_SCRIPT, hook, os.path.abspath(host.config_path), asking)
    with open(f"{work}/config.json", "w", encoding="utf-8") as file:
        file.write(script)
    started = time.perf_counter()
    outcome = tiny.run(runtime, work, f"oci-gpu-doctor-{os.getpid()}")
    milliseconds = (time.perf_counter() - started) * 1000
    what = f"a container under {os.path.basename(runtime)}"
    remedy = "the hook's message says what to do; oci-gpu plan shows the same for your own bundle"
    if outcome.status:
        words = (outcome.errors.strip() or outcome.output.strip() or "it said nothing").split("\n")
        of_hook = "oci-gpu-hook: error: " in words[-1]
        remedy = (
            remedy
            if of_hook
            else "check whether it starts containers that ask for no GPU: this is the runtime's own message"
        )
        severity = ERROR if of_hook else WARNING
        return Finding(check=_NAME, severity=severity, what=f"{what} did not start", why=words[-1], remedy=remedy)
    shown = [line for line in outcome.output.split("\n") if line.startswith("GPU ")]
    refused = [line for line in outcome.output.split("\n") if "ermitted" in line]
    if refused:
        why = f"the device cgroup refuses it: {quoted(refused[0])}"
        return Finding(check=_NAME, severity=ERROR, what=f"{what} cannot open its GPU", why=why, remedy=remedy)
    if other:
        missing = [node for node in other.nodes if f"node {node}\n" not in outcome.output]
        if missing:
            why = f"it has no {' and no '.join(missing)}"
            return Finding(
                check=_NAME, severity=ERROR, what=f"{what} does not have all of {other.name}", why=why, remedy=remedy
            )
        saw = f"{what} saw the nodes of {other.name}, from start to end in {milliseconds:.0f} ms"
        return Finding(check=_NAME, severity=OK, what=saw)
    node = "/dev/nvidiactl" if host.inventory and not host.inventory.platform else ""
    if not (shown or not node) or f"node {node}" not in outcome.output:
        why = f"nvidia-smi says {quoted((outcome.output + outcome.errors).strip())}"
        return Finding(check=_NAME, severity=ERROR, what=f"{what} sees no GPU", why=why, remedy=remedy)
    saw = shown[0] if shown else "the nodes of its GPU"
    return Finding(check=_NAME, severity=OK, what=f"{what} saw {saw}, from start to end in {milliseconds:.0f} ms")


def _asking(host: Host) -> list[str]:
    gpus = _working(host)
    mig = [device.uuid for gpu in gpus for device in gpu.mig_devices]
    one = "all" if host.inventory and host.inventory.platform else gpus[0].uuid
    return [f"NVIDIA_VISIBLE_DEVICES={mig[0] if mig else one}", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]


def _working(host: Host) -> list[Gpu]:
    return [gpu for gpu in host.inventory.gpus if not gpu.fault] if host.inventory else []


def _can_run_programs(place: str) -> bool:
    try:
        flags = os.statvfs(place).f_flag
    except OSError:
        return False
    return not flags & (os.ST_NOEXEC | os.ST_RDONLY)
