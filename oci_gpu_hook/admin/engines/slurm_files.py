"""The text of Slurm's files: lines of `Name=value` words, comments, and the blocks of this project in them. Pure."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.devices.model import Device

EXECUTABLE: Final = "oci-gpu-slurm"
_CONTAINER: Final = "%n.%j.%s.%t"  # oci.conf(5), "OCI Pattern": node, job, step and task; %u the user, %b the bundle
_COMMANDS: Final = {"Query": "state", "Kill": "kill", "Delete": "delete", "Run": "run"}
_OPERATIONS: Final = tuple(f"runtime{name.lower()}" for name in (*_COMMANDS, "Create", "Start"))


def begin(what: str) -> str:
    """Return the first line of a block."""
    return f"# BEGIN oci-gpu-hook, {what}: made by `oci-gpu install slurm`, removed by `oci-gpu uninstall slurm`"


def end(what: str) -> str:
    """Return the last line of a block."""
    return f"# END oci-gpu-hook, {what}"


def oci_conf(text: str, executable: str) -> str:
    """Return an oci.conf that calls this project's executable; of the text all stays but other calls of runtimes."""
    kept = [line for line in files.lines_of(text) if _first_name(line) not in _OPERATIONS]
    lines = []
    for name, command in _COMMANDS.items():
        bundle = " '%b'" if command == "run" else ""
        lines.append(f"RunTime{name}=\"'{executable}' {command} '%u' {_CONTAINER}{bundle}\"")
    return with_block("".join(kept), "calls", lines)


def executable_of(text: str) -> str:
    """Return the executable that an oci.conf has Slurm run containers by, "" for none."""
    for line in text.split("\n"):
        if _first_name(line) == "runtimerun":
            words = line.partition("=")[2].strip().strip('"').split()
            return words[0].strip("'") if words else ""
    return ""


def value_of(text: str, name: str) -> str:
    """Return the last value of a parameter, in whatever letter case it is named, "" for none."""
    found = ""
    for line in text.split("\n"):
        for word in line.partition("#")[0].replace(" =", "=").replace("= ", "=").split():
            key, equals, value = word.partition("=")
            if equals and key.lower() == name.lower():
                found = value.strip('"')
    return found


def has_gpus(text: str) -> bool:
    """Tell whether a gres.conf speaks of GPUs, or has Slurm find them."""
    return value_of(text, "AutoDetect").lower() not in ("", "off") or any(
        word.lower() == "name=gpu" for line in text.split("\n") for word in line.partition("#")[0].split()
    )


def with_block(text: str, what: str, lines: Sequence[str]) -> str:
    """Return the text with a block in the place of the one that it has, else at its end."""
    block = "".join(f"{line}\n" for line in (begin(what), *lines, end(what)))
    before, there, rest = text.partition(f"{begin(what)}\n")
    if there:
        return before + block + rest.partition(f"{end(what)}\n")[2]
    separator = "\n" if text and not text.endswith("\n") else ""
    return f"{text}{separator}{block}"


def without_block(text: str, what: str, path: str) -> str:
    """Return the text without its block. Raises EngineFileError for half a block."""
    before, there, rest = text.partition(f"{begin(what)}\n")
    if not there:
        return text
    _, ended, after = rest.partition(f"{end(what)}\n")
    if not ended or begin(what) in after:
        raise EngineFileError(
            quoted(path), "has a damaged block of oci-gpu-hook", f"remove what {begin(what)!r} begins", "OGH1805"
        )
    return before + after


def of_others(text: str) -> str:
    """Return the text without any block of this project's: a file may have one for each node."""
    kept = []
    inside = False
    for line in files.lines_of(text):
        inside = inside or line.startswith("# BEGIN oci-gpu-hook, ")
        if not inside:
            kept.append(line)
        inside = inside and not line.startswith("# END oci-gpu-hook, ")
    return "".join(kept)


def gres_lines(
    node: str, devices: Sequence[tuple[Device, Sequence[DeviceNode]]], names: Mapping[str, str]
) -> list[str]:
    """Return the lines of gres.conf for devices with the nodes that are theirs alone, in this order.

    names: of the products, by UUID. Slurm numbers GPUs by the order of the lines.
    """
    lines = []
    for device, nodes in devices:
        paths = [node.host_path for node in nodes]
        word = "File" if len(paths) == 1 else "MultipleFiles"
        type_ = type_of(names.get(device.whole or device.uuid, ""), device.profile)
        lines.append(f"NodeName={node} Name=gpu{f' Type={type_}' if type_ else ''} {word}={','.join(paths)}")
    return lines


def type_of(product: str, profile: str = "") -> str:
    """Return what Slurm's own detection calls a product: nvidia_h100_80gb_hbm3; of a MIG device with its profile."""
    text = f"{product}_{profile}" if product and profile else product or profile
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text.lower()).strip("_")


def counts(lines: Sequence[str]) -> str:
    """Return what slurm.conf says of a node with these GPUs: `gpu:TYPE:4,gpu:OTHER:2`."""
    found: dict[str, int] = {}
    for line in lines:
        name = f"gpu:{type_}" if (type_ := value_of(line, "Type")) else "gpu"
        found[name] = found.get(name, 0) + 1
    return ",".join(f"{name}:{count}" for name, count in found.items())


def is_executable(root: str, path: str) -> bool:
    """Tell whether a file in the file system at `root` can be run."""
    return os.access(os.path.join(root, path.lstrip("/")), os.X_OK)


def interpreter_of(path: str) -> str:
    """Return what the #! line of a script names; the file itself where it has none."""
    with open(path, "rb") as file:
        start = file.read(256)
    return os.fsdecode(start[2:].split()[0]) if start.startswith(b"#!") else path


def _first_name(line: str) -> str:
    return line.partition("#")[0].partition("=")[0].strip().lower()
