"""Puts a simulated host into its directory: made beside the one that is there, then put in its place.

A failure leaves the old host as it was. The state directory is the hook's, and stays.
"""

from __future__ import annotations

import fcntl
import json  # noqa: TID253  a command for people
import os
import shutil  # noqa: TID253

from oci_gpu_hook.admin.simulate import kernel_log, other_platforms, other_vendors
from oci_gpu_hook.admin.simulate.build import build
from oci_gpu_hook.admin.simulate.driver_files import Driver
from oci_gpu_hook.admin.simulate.driver_root import make_driver_root
from oci_gpu_hook.admin.simulate.gpus import IN_THE_CHIP
from oci_gpu_hook.admin.simulate.layouts import layout_named
from oci_gpu_hook.admin.simulate.model import NVIDIA, Settings
from oci_gpu_hook.admin.simulate.nodes import host_nodes
from oci_gpu_hook.admin.simulate.other_platforms import TEGRA, WSL
from oci_gpu_hook.admin.simulate.procfs import devices_text, make_procfs
from oci_gpu_hook.admin.simulate.sysfs import make_sysfs
from oci_gpu_hook.admin.simulate.tree import Tree
from oci_gpu_hook.base.errors import SimulationError, quoted
from oci_gpu_hook.base.trust import is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.admin.simulate.layouts import Layout
    from oci_gpu_hook.admin.simulate.model import SimulatedHost

MARKER: Final = "simulation.json"  # a directory with it is ours to replace
PARTS: Final = (MARKER, "config.toml", "driver", "dev", "proc", "sys")
STAGING: Final = ".new"


_LISTS: Final = ("mig_profiles", "minors", "sick", "lost", "platforms")


def read_settings(directory: str) -> Settings | None:
    """Return the settings of the simulated host in a directory; None when there is none."""
    try:
        with open(f"{directory}/{MARKER}", encoding="utf-8") as file:
            fields = json.load(file)["oci-gpu-hook simulated host"]
        lists = {name: tuple(fields[name]) for name in _LISTS if fields.get(name) is not None}
        return Settings(**{**fields, **lists})
    except (OSError, ValueError, LookupError, TypeError):
        return None


def layout_of(settings: Settings, machine: str) -> Layout:
    """Return where the host has the driver's files."""
    for platform in (WSL, TEGRA):
        if platform in settings.platforms:
            return other_platforms.layout(platform)
    return layout_named(settings.layout, machine)


def replace(host: SimulatedHost, machine: str) -> None:
    """Make the host, for a machine `x86_64` or `aarch64`. Raises SimulationError, OSError."""
    created = _claim(host)
    lock = os.open(host.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(0o022)
    done = False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # noqa: TID251  of a directory, and no wait
        _exchange(host, machine)
        done = True
    except BlockingIOError:
        why = "another oci-gpu simulate is at work in it"
        raise SimulationError(quoted(host.directory), why, "wait for it to end", "OGH2004") from None
    finally:
        os.umask(umask)
        os.close(lock)
        if created and not done:
            os.rmdir(host.directory)


def _claim(host: SimulatedHost) -> bool:
    """See that the directory is there and may be filled. Return whether it was made."""
    directory = host.directory
    try:
        entries = set(os.listdir(directory))
    except FileNotFoundError:
        Tree(root=directory).directory("")
        entries = None
    except NotADirectoryError:
        raise SimulationError(quoted(directory), "is not a directory", "choose another place", "OGH2004") from None
    if entries and entries != {STAGING} and read_settings(directory) is None:
        why = "is not empty, and no simulated host"
        raise SimulationError(quoted(directory), why, "choose a new or an empty directory", "OGH2004")
    if entries is not None and not is_trusted(os.stat(directory)):
        why = "belongs to another user, or others can write to it, who could redirect what is made there"
        raise SimulationError(quoted(directory), why, "choose a new directory", "OGH2004")
    unfit = _unfit(directory, nodes=host.settings.device_nodes)
    if unfit:
        if entries is None:
            os.rmdir(directory)
        raise SimulationError(
            quoted(directory), unfit, "choose one on another file system, e.g. below /var/lib", "OGH2004"
        )
    return entries is None


def _unfit(directory: str, *, nodes: bool) -> str:
    flags = os.statvfs(directory).f_flag
    if flags & os.ST_NOEXEC:
        return "is mounted noexec: its libraries could not be loaded"
    if flags & os.ST_NODEV and nodes:
        return "is mounted nodev: its nodes could not be opened"
    return ""


def _exchange(host: SimulatedHost, machine: str) -> None:
    staging = f"{host.directory}/{STAGING}"
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
    try:
        _fill(Tree(root=staging), host, machine)
        for part in PARTS:
            if os.path.lexists(f"{host.directory}/{part}"):
                os.rename(f"{host.directory}/{part}", f"{staging}/old-{part}")
            os.rename(f"{staging}/{part}", f"{host.directory}/{part}")
        Tree(root=host.directory).directory("state")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fill(tree: Tree, host: SimulatedHost, machine: str) -> None:
    settings = host.settings
    layout = layout_of(settings, machine)
    libraries = Driver(version=settings.driver_version, machine=machine)
    modules = Driver(version=settings.kernel_driver_version, machine=machine)
    tree.directory("dev")
    if settings.device_nodes:
        _nodes(tree, host)
    if NVIDIA in settings.platforms:
        make_procfs(tree, host.gpus, modules, host.numbers)
        cards = [gpu for gpu in host.gpus if gpu.slot != IN_THE_CHIP]
        make_sysfs(tree, cards, version=modules.version, numbers=host.numbers, firmware=layout.firmware_class_path)
    else:
        tree.write("proc/devices", devices_text(host.numbers, without_nvidia=True), 0o444)
    if host.gpus:
        compiled = build(host.gpus, settings, layout, host.numbers)
        _driver_files(tree, libraries, layout, compiled, settings)
    else:
        tree.directory("driver")
    other_vendors.make_sysfs(tree, host.others)
    tree.write("config.toml", _config(host, layout))
    tree.write(MARKER, json.dumps({"oci-gpu-hook simulated host": vars(settings)}, indent=2) + "\n")


def _driver_files(
    tree: Tree, driver: Driver, layout: Layout, compiled: Mapping[str, bytes], settings: Settings
) -> None:
    root = os.path.join(tree.root, "driver", layout.root).rstrip("/")
    if WSL in settings.platforms:
        other_platforms.make_wsl(Tree(root=root), driver.machine, compiled)
    elif TEGRA in settings.platforms:
        other_platforms.make_tegra(Tree(root=root), driver.machine, compiled, card=NVIDIA in settings.platforms)
        tree.write("sys/firmware/devicetree/base/compatible", "nvidia,p3737-0000\0nvidia,tegra234\0", 0o444)
        tree.write("sys/devices/soc0/family", "Tegra\n", 0o444)
    else:
        make_driver_root(root, driver, layout, compiled)


def _nodes(tree: Tree, host: SimulatedHost) -> None:
    has_cards = NVIDIA in host.settings.platforms
    nvidia = [*(host_nodes(host.gpus, host.numbers) if has_cards else ())]
    for platform in {WSL, TEGRA}.intersection(host.settings.platforms):
        nvidia += other_platforms.device_nodes(platform, host.numbers, card=has_cards)
    made = {node.path: node for node in reversed(nvidia)}  # of two with one path the driver's for cards
    for node in (*made.values(), *other_vendors.device_nodes(host.others, host.numbers)):
        tree.character_device(node.path, node.major, node.minor, node.mode, node.gid)
    for gpu in host.gpus if has_cards else ():
        card, render = host.numbers.drm(gpu.index)
        tree.link(f"dev/dri/by-path/pci-{gpu.bus_id}-card", f"../{card}")
        tree.link(f"dev/dri/by-path/pci-{gpu.bus_id}-render", f"../{render}")
    for device in host.others:
        for name in device.names if not device.part else ():
            kind = "card" if name.startswith("card") else "render"
            tree.link(f"dev/dri/by-path/pci-{device.address}-{kind}", f"../{name}")


def _config(host: SimulatedHost, layout: Layout) -> str:
    """Return config.toml; JSON's strings are TOML's basic strings."""
    keys = {"root": host.driver_root, "dev-root": host.dev_root, "proc-root": host.proc_root, "sys-root": host.sys_root}
    lines = "".join(f"{key} = {json.dumps(path, ensure_ascii=False)}\n" for key, path in keys.items())
    if layout.search_paths:
        lines += f"library-search-paths = {json.dumps(layout.search_paths)}\n"
    state = json.dumps(host.state_dir, ensure_ascii=False)
    log = json.dumps(f"{host.directory}/{kernel_log.NAME}", ensure_ascii=False)
    watch = f"[watch]\nkernel-log = {log}\n"
    return f"# A simulated host, made by oci-gpu simulate.\n[driver]\n{lines}\n[state]\ndir = {state}\n\n{watch}"
