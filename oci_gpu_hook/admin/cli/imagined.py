"""A container that does not exist, as the options of `oci-gpu plan` describe it: what it asks by, and its image."""

from __future__ import annotations

import os

from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci.container import State, parse_config
from oci_gpu_hook.request.model import ANNOTATION_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Final

    from oci_gpu_hook.oci.container import Container

_SETTINGS: Final = ("count", "devices", "memory", "capabilities")
_LIKE_DEBIAN: Final = ("etc/debian_version", "lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1")
_NAMESPACES: Final = ("pid", "mount", "ipc", "uts", "network")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    told = parser.add_argument_group("without a CONTAINER")
    told.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="a variable; may be repeated")
    told.add_argument(
        "--annotation", metavar="NAME=VALUE", action="append", default=[], help="an annotation; may be repeated"
    )
    told.add_argument("--count", metavar="N", help="as by the annotation io.oci-gpu-hook.count, and so on:")
    told.add_argument("--devices", metavar="LIST")
    told.add_argument("--memory", metavar="SIZE")
    told.add_argument("--capabilities", metavar="LIST")
    told.add_argument("--exclusive", action="store_true")
    told.add_argument("--image-root", metavar="DIR", default="", help="the unpacked image (default: one like Debian's)")


def is_told(options: argparse.Namespace) -> bool:
    """Tell whether any of the options is given."""
    return bool(options.env or options.image_root or _annotations(options))


def with_container(options: argparse.Namespace, work: Callable[[Container], int]) -> int:
    """Return what the work returns for the container; an image that is made is removed afterwards."""
    import tempfile

    if not is_told(options):
        remedy = (
            "name a directory with config.json or a container, or say what it asks by: --env NVIDIA_VISIBLE_DEVICES=0"
        )
        raise InvalidInput("plan", "lacks a CONTAINER", remedy, "OGH1902")
    for entry in options.env:
        if "=" not in entry:
            raise InvalidInput(f"--env {quoted(entry)}", "has no '='", "write NAME=VALUE", "OGH1902")
    with tempfile.TemporaryDirectory(prefix="oci-gpu-plan-") as directory:
        rootfs = os.path.abspath(options.image_root) if options.image_root else _made_image(directory)
        config = {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "env": options.env, "cwd": "/"},
            "root": {"path": rootfs},
            "annotations": _annotations(options),
            "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
        }
        state = State(id="planned", pid=0, bundle=directory, root="", annotations={})
        return work(parse_config(dump(config), state))


def _made_image(directory: str) -> str:
    """Make a root directory with the files by which the hook recognises Debian's images."""
    rootfs = os.path.join(directory, "rootfs")
    for path in _LIKE_DEBIAN:
        os.makedirs(os.path.dirname(f"{rootfs}/{path}"), exist_ok=True)  # noqa: TID251  of this process alone
        with open(f"{rootfs}/{path}", "wb") as file:
            file.write(b"\0/etc/ld.so.cache\0")  # which the hook looks for in a loader
    return rootfs


def _annotations(options: argparse.Namespace) -> dict[str, str]:
    found = {}
    for entry in options.annotation:
        name, equals, value = entry.partition("=")
        if not equals:
            raise InvalidInput(f"--annotation {quoted(entry)}", "has no '='", "write NAME=VALUE", "OGH1902")
        found[name] = value
    for name in _SETTINGS:
        if (value := getattr(options, name)) is not None:
            found[ANNOTATION_PREFIX + name] = value
    if options.exclusive:
        found[ANNOTATION_PREFIX + "exclusive"] = "true"
    return found
