"""Where a request may come from, in order: annotations, volume mounts, swarm resource, environment, old CUDA images.

Each function returns what its source asks for, or None where the source is silent and the next one has the word.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import qualified_name
from oci_gpu_hook.request.device_list import Ask, read_list
from oci_gpu_hook.request.model import ANNOTATION_PREFIX
from oci_gpu_hook.request.values import items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import BundleMount, Container

CDI_ANNOTATION_PREFIX: Final = "cdi.k8s.io/"
VISIBLE_DEVICES: Final = "NVIDIA_VISIBLE_DEVICES"
MOUNT_ROOT: Final = "/var/run/nvidia-container-devices/"


def environment(entries: Sequence[str], warnings: list[str]) -> dict[str, str]:
    """Return the variables; the last of a name wins. An entry without `=` sets nothing, and a warning names it."""
    variables = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            variables[name] = value
        else:
            warnings.append(f"the environment entry {quoted(entry)} has no '=' and sets nothing")
    return variables


def check_entries(entries: Sequence[str]) -> None:
    """Raise InvalidInput for an entry without `=`: what a container asks for by it cannot be known."""
    for entry in entries:
        if "=" not in entry:
            what = f"process.env: the entry {quoted(entry)}"
            raise InvalidInput(what, "has no '='", "write NAME=VALUE, or remove it from the image")


def is_legacy_image(variables: Mapping[str, str]) -> bool:
    """Tell whether the image is from before NVIDIA_REQUIRE_CUDA: such images ask by CUDA_VERSION alone."""
    return bool(variables.get("CUDA_VERSION")) and not variables.get("NVIDIA_REQUIRE_CUDA")


def from_annotations(container: Container, variables: Mapping[str, str], warnings: list[str]) -> Ask | None:
    """Read io.oci-gpu-hook.devices, io.oci-gpu-hook.count and cdi.k8s.io/*. Raises InvalidInput."""
    own = container.annotations.get(ANNOTATION_PREFIX + "devices")
    count = container.annotations.get(ANNOTATION_PREFIX + "count", "").strip()
    qualified = _cdi_devices(container.annotations, warnings)
    if qualified and own is None and not count and variables.get(VISIBLE_DEVICES) == "void":
        # What a CDI spec of NVIDIA's leaves in the environment once the engine has applied it.
        warnings.append(f"{VISIBLE_DEVICES}='void': the engine has applied the CDI annotations; nothing is added")
        return Ask(source="annotations", what=CDI_ANNOTATION_PREFIX + "*", devices=None)
    if own is None and not qualified:
        what = f"{ANNOTATION_PREFIX}count={quoted(count)}"
        return Ask(source="annotations", what=what, devices=None, count_decides=True) if count else None
    what = CDI_ANNOTATION_PREFIX + "*" if own is None else f"{ANNOTATION_PREFIX}devices={quoted(own)}"
    return read_list("annotations", what, items(own or "") + qualified, warnings)


def from_mounts(mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
    """Read the mounts of /dev/null below /var/run/nvidia-container-devices/. Raises InvalidInput.

    Source: NVIDIA's Kubernetes device plugin, `deviceListStrategy: volume-mounts`.
    """
    listed: list[str] = []
    for name in _mounted(mounts):
        if name.startswith("cdi/"):
            listed += _mounted_cdi(name, warnings)
        elif not name.startswith("imex/"):
            listed += items(name)
    what = f"volume mounts {quoted(','.join(listed))}"
    if len(listed) > 1 and ("none" in listed or "void" in listed):
        # In a variable the last word on a line may be the image's; mounts are all of one author, who errs.
        raise InvalidInput(what, "'none' or 'void' stands beside devices", "mount the devices alone, or the word alone")
    return read_list("mounts", what, listed, warnings) if listed else None


def mounted_imex_channels(mounts: Sequence[BundleMount]) -> tuple[str, ...]:
    """Return the IMEX channels that mounts name, unchecked."""
    return tuple(name.removeprefix("imex/") for name in _mounted(mounts) if name.startswith("imex/"))


def from_environment(
    container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> Ask | None:
    """Read the swarm variables, else NVIDIA_VISIBLE_DEVICES, else what an old CUDA image implies. Raises InvalidInput.

    None also where policy keeps an unprivileged container from asking by variables; a warning says so.
    """
    swarm = [name for name in config.swarm_resource if name in variables]
    present = swarm or [name for name in (VISIBLE_DEVICES,) if name in variables]
    listed = [item for name in present for item in items(variables[name])]
    count = variables.get("OCI_GPU_COUNT", "").strip()
    by_count = bool(count) and not swarm and not listed
    implied = not present and is_legacy_image(variables)
    if not (listed or by_count or implied):
        return None
    if not (container.privileged or config.accept_envvar_when_unprivileged):
        if "void" not in listed:
            by = ", ".join(present if listed else ["OCI_GPU_COUNT"] if by_count else ["CUDA_VERSION"])
            warnings.append(f"GPUs asked for by {by} are not given: the container is unprivileged (see config.toml)")
        return None
    if by_count:
        what = f"OCI_GPU_COUNT={quoted(count)}"
        return Ask(source="environment", what=what, devices=None, count_decides=True)
    if implied:
        return Ask(source="legacy-image", what="CUDA_VERSION", devices=("all",))
    what = ", ".join(f"{name}={quoted(variables[name])}" for name in present)
    return read_list("swarm" if swarm else "environment", what, listed, warnings)


def _cdi_devices(annotations: Mapping[str, str], warnings: list[str]) -> list[str]:
    """Return NVIDIA's CDI names of the cdi.k8s.io/* annotations; those of others are theirs to serve.

    Raises InvalidInput for what names NVIDIA and is no CDI name, lest the container get fewer GPUs than it asks for.
    """
    found = []
    for key in sorted(key for key in annotations if key.startswith(CDI_ANNOTATION_PREFIX)):
        for item in items(annotations[key]):
            name = qualified_name.parse(item)
            if name and name.is_nvidia and (name.device or name.imex_channel or name.feature):
                found.append(item)
            elif name is None and qualified_name.is_nvidia(item.replace("=", "/").partition("/")[0]):
                what = f"{key}={quoted(annotations[key])}"
                raise InvalidInput(what, f"{quoted(item)} is no CDI name", "write vendor/class=name: nvidia.com/gpu=0")
            else:
                warnings.append(f"annotation {quoted(key)}: {quoted(item)} is not served here; the engine may serve it")
    return found


def _mounted(mounts: Sequence[BundleMount]) -> list[str]:
    """Return what stands below the root of device mounts, each once."""
    destinations = (_clean(mount.destination) for mount in mounts if _clean(mount.source) == "/dev/null")
    names = [path.removeprefix(MOUNT_ROOT) for path in destinations if path.startswith(MOUNT_ROOT)]
    return list(dict.fromkeys(names))


def _mounted_cdi(name: str, warnings: list[str]) -> list[str]:
    """Return the CDI name that a mount `cdi/vendor/class/name` or `cdi/vendor/class=name` stands for."""
    request = name.removeprefix("cdi/")
    parts = request.split("/", 2)
    if qualified_name.parse(request):
        return [request]
    if len(parts) == 3:
        return [f"{parts[0]}/{parts[1]}={parts[2]}"]
    warnings.append(f"the volume mount {quoted(name)} is ignored: a CDI device is mounted as cdi/VENDOR/CLASS/NAME")
    return []


def _clean(path: str) -> str:
    """Return a path without `.`, `..` and repeated slashes, as Go's filepath.Clean writes it."""
    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
