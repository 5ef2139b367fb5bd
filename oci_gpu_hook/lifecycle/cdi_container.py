"""Adds to a container what its engine cannot, when it gives devices by a CDI specification of this project."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply import image_facts, inside
from oci_gpu_hook.apply.process import Process, Site, open_rootfs
from oci_gpu_hook.apply.watch import Watch
from oci_gpu_hook.base import log
from oci_gpu_hook.base.document import member, parse
from oci_gpu_hook.devices.edits import DeviceNode, restricted
from oci_gpu_hook.devices.nvidia import cdi_container, cdi_hook, facts, procfs
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import image_facts as facts_of_nvidia
from oci_gpu_hook.devices.nvidia.cdi_container import Seen
from oci_gpu_hook.lifecycle import container_user
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.plan import node_access
from oci_gpu_hook.plan.plan import Plan
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import State
    from oci_gpu_hook.oci.image import Image

_OF_GPUS: Final = ("/dev/nvidia", "/dev/dri/")


def adjust(config_json: bytes, state: State, words: Sequence[str], config: Config) -> None:
    """Give the container its links, ld cache and view of /proc. On a HookError the engine ends the container.

    This process is in the container's mount namespace, before its root is changed: paths are still the host's.
    """
    arguments = cdi_hook.parse(words)
    what = os.path.join(state.bundle, "config.json")
    document = parse(config_json, what)
    container = containers.of_document(document, state)
    log.configure(config, container=container.id)
    inside.check_namespace()
    with (
        Process(0) as process,
        Watch(container.id, process.mountinfo(), container.rootfs),
        open_rootfs(container, process) as rootfs,
    ):
        image = image_facts.look(rootfs, container, config, of_nvidia.KIND)
        made = cdi_container.make(arguments, image, _nodes(document, what), _seen(image, arguments, config), config)
        plan = Plan(
            request=Request(driver_capabilities=(), source="cdi"),
            image=image,
            devices=(),
            edits=made.edits,
            links=made.links,
            files=made.files,
            ld_cache=made.ld_cache,
            decisions=(*image.decisions, *made.decisions),
            warnings=(*image.warnings, *made.warnings),
            driver_version=made.driver_version,
        )
        warnings = inside.carry_out(plan, Site(container=container, process=process, rootfs=rootfs, config=config))
    guarded = restricted(_given(document, what))
    user = container_user.of(container, guarded) if guarded else None
    for text in (*plan.warnings, *warnings, *(node_access.warnings(user, guarded) if user else ())):
        log.tell(text)


def _seen(image: Image, arguments: cdi_hook.Arguments, config: Config) -> Seen:
    """Return what /proc shows; names of products only if the image has libraries that do not suit every product."""
    gpus = procfs.gpus(config.proc_root) if facts_of_nvidia.of(image).compat else ()
    files = procfs.files_for_containers(config.proc_root)
    silent = facts.silent(config.sys_root, [name for _minor, name in arguments.gpus])
    return Seen(files=files, products={gpu.proc_name: gpu.name for gpu in gpus}, silent=frozenset(silent))


def _nodes(document: object, what: str) -> frozenset[str]:
    """Return the paths of the device nodes that the runtime creates or binds, according to config.json."""
    linux = member(document, "linux", dict, what, {})
    made = [member(entry, "path", str, what, "") for entry in member(linux, "devices", list, what, [])]
    bound = [member(entry, "destination", str, what, "") for entry in member(document, "mounts", list, what, [])]
    return frozenset((*made, *bound))


def _given(document: object, what: str) -> Iterator[DeviceNode]:
    """Yield the GPUs' nodes according to config.json; owners that it does not state are the host's."""
    linux = member(document, "linux", dict, what, {})
    for entry in member(linux, "devices", list, what, []):
        path = member(entry, "path", str, what, "")
        mode = member(entry, "fileMode", int, what)
        if mode is not None:
            uid, gid = member(entry, "uid", int, what, 0), member(entry, "gid", int, what, 0)
            yield from _of_gpus(DeviceNode(path=path, host_path=path, file_mode=mode & 0o7777, uid=uid, gid=gid))
        else:
            yield from _of_host(path, path)
    for entry in member(document, "mounts", list, what, []):
        yield from _of_host(member(entry, "destination", str, what, ""), member(entry, "source", str, what, ""))


def _of_host(path: str, host_path: str) -> Iterator[DeviceNode]:
    try:
        status = os.stat(host_path) if path.startswith(_OF_GPUS) else None
    except OSError:
        return
    if status and stat.S_ISCHR(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        yield DeviceNode(path=path, host_path=host_path, file_mode=mode, uid=status.st_uid, gid=status.st_gid)


def _of_gpus(node: DeviceNode) -> Iterator[DeviceNode]:
    if node.path.startswith(_OF_GPUS):
        yield node
