"""Makes oci-gpu-runtime the runtime of Podman, for root and all users, by a drop-in of containers.conf(5)."""

from __future__ import annotations

import os
import tomllib  # noqa: TID253

from oci_gpu_hook.admin.engines import files, hooks_directories
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import RUNTIME_NAME, Change, Finding
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

FILE: Final = "/etc/containers/containers.conf.d/oci-gpu-hook.conf"
_FIRST_LINE: Final = "# Made by `oci-gpu install podman --runtime`, removed by `oci-gpu uninstall podman`."
# Podman's lists of runtimes that log in JSON, and that work without cgroups (containers.conf(5)); a drop-in replaces
# them.
_JSON: Final = ("crun", "runc", "kata", "runsc", "youki", "krun")
_NO_CGROUPS: Final = ("crun", "krun")


def install(target: Target) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return the change that makes the runtime Podman's default, and warnings. Raises HookError."""
    if not target.runtime:
        raise EngineFileError(
            "oci-gpu-runtime", "found neither runc nor crun on PATH", "install crun or runc", "OGH1803"
        )
    chosen = hooks_directories.podman_runtime(target.root)
    if chosen.value not in ("", RUNTIME_NAME):
        why = f"makes {quoted(chosen.value)} Podman's runtime"
        remedy = f"remove `runtime` there first, or install without --runtime and use podman --runtime {target.runtime}"
        raise EngineFileError(quoted(chosen.said_in), why, remedy, "OGH1811")
    path = target.path(FILE)
    before = _ours(path)
    after = _text(target).encode()
    changes = () if before == after else (Change(path=path, before=before, after=after),)
    return changes, _warnings(target)


def uninstall(target: Target) -> tuple[Change, ...]:
    """Return the change that restores Podman's own runtime, () if it is in use. Raises HookError."""
    path = target.path(FILE)
    before = _ours(path)
    return () if before is None else (Change(path=path, before=before, after=None),)


def check(root: str) -> list[Finding]:
    """Return the findings about the drop-in, none if it does not exist."""
    path = os.path.join(root, FILE.lstrip("/"))
    remedy = "run `oci-gpu install podman --runtime`"
    try:
        contents = _ours(path)
        if contents is None:
            return []
        (runtime,) = tomllib.loads(contents.decode())["engine"]["runtimes"][RUNTIME_NAME]
    except HookError as error:
        return [Finding(ok=False, text=f"Podman: {error.what}: {error.why}", remedy=error.remedy)]
    except (ValueError, KeyError, TypeError):
        return [Finding(ok=False, text=f"{path} was edited, and names no runtime", remedy=remedy)]
    if not os.access(os.path.join(root, str(runtime).lstrip("/")), os.X_OK):
        return [Finding(ok=False, text=f"Podman's runtime {quoted(runtime)} cannot be run", remedy=remedy)]
    return [Finding(ok=True, text=f"Podman's runtime is {RUNTIME_NAME}: {runtime}")]


def _ours(path: str) -> bytes | None:
    """Return the drop-in, None if there is none. Raises EngineFileError if another's file has its name."""
    contents = files.read(path)
    if contents is not None and not contents.startswith(_FIRST_LINE.encode()):
        raise EngineFileError(quoted(path), "was not made by oci-gpu-hook", "move it away first", "OGH1801")
    return contents


def _text(target: Target) -> str:
    no_cgroups = (*_NO_CGROUPS, RUNTIME_NAME) if os.path.basename(target.real_runtime) == "crun" else _NO_CGROUPS
    path = target.runtime.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'{_FIRST_LINE}\n[engine]\nruntime = "{RUNTIME_NAME}"\n'
        f"runtime_supports_json = {_list(*_JSON, RUNTIME_NAME)}\n"
        f"runtime_supports_nocgroups = {_list(*no_cgroups)}\n"
        f"[engine.runtimes]\n{RUNTIME_NAME} = {_list(path)}\n"
    )


def _list(*names: str) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _warnings(target: Target) -> tuple[str, ...]:
    if os.path.basename(target.real_runtime) != "runc" or target.root != "/":
        return ()
    from shutil import which

    crun = which("crun")
    if not crun:
        return ()
    text = f"Podman used crun, and oci-gpu-runtime starts {target.real_runtime}: --real-runtime {crun} keeps crun"
    return (f"{text}, for Docker's and containerd's containers as well",)
