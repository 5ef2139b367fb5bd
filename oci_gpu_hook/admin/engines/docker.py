"""Docker, in two ways: a runtime in daemon.json, and the hook that `docker run --gpus` calls.

dockerd offers `--gpus` if it finds `nvidia-container-runtime-hook` on its PATH at its start; then it registers that as
prestart hook (moby, daemon/nvidia_linux.go). If NVIDIA's hook is absent, a link with that name is made in /usr/bin,
where NVIDIA's package would replace it.
"""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import docker_runtimes, docker_swarm, files, gpus, programs
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import RUNTIME_NAME, Change, Finding, Steps
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from oci_gpu_hook.admin.engines.model import Target

FILE: Final = "/etc/docker/daemon.json"
HOOK_NAME: Final = "nvidia-container-runtime-hook"
HOOK_LINK: Final = f"/usr/bin/{HOOK_NAME}"
_OLDEST: Final = (19, 3)
_UNITS: Final = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


def install(target: Target) -> Steps:
    """Return the changes that install the runtime and the hook, without making them. Raises HookError."""
    if target.swarm:
        docker_swarm.check_kind(target.swarm)
        docker_swarm.check_place(target)
        target = target.replace(default=True)
    if not target.file:
        programs.require(target.root, "dockerd", _OLDEST, "`docker run --gpus`")
    path = target.path(target.file or FILE)
    before = files.read(path)
    text = files.text_of(before or b"", path)
    daemon = docker_runtimes.load(text, path)
    docker_runtimes.check(daemon, target, path)
    _check_flags(target, path)
    changes = []
    after = docker_runtimes.with_runtimes(text, target) if docker_runtimes.lacks(daemon, target) else text
    if target.swarm:
        after = docker_swarm.with_resources(after, target.swarm, gpus.uuids(target.config))
    if after != text:
        changes.append(Change(path=path, before=before, after=after.encode(), backup=RUNTIME_NAME not in text))
    notes = [f"start containers with: docker run --runtime {RUNTIME_NAME} -e NVIDIA_VISIBLE_DEVICES=0 …"]
    links, warnings = _link(target)
    changes += links
    if target.swarm:
        changes += filter(None, [docker_swarm.config_change(target, target.swarm)])
        notes.append(f"or as a service: docker service create --generic-resource {target.swarm}=1 …")
    if changes:
        notes.insert(0, "restart Docker: systemctl restart docker (containers stop unless live-restore is on)")
    if not warnings:
        notes.append("or with: docker run --gpus all|2|'\"device=0,1\"' …")
    return Steps(changes=tuple(changes), notes=tuple(notes), warnings=tuple(warnings))


def uninstall(target: Target) -> Steps:
    """Return the changes that remove both, without making them. Raises HookError."""
    path = target.path(target.file or FILE)
    before = files.read(path)
    changes = []
    notes = []
    if before is not None:
        text = files.text_of(before, path)
        daemon = docker_runtimes.load(text, path)
        if docker_runtimes.has_part(daemon, target):
            original, untouched = docker_runtimes.original(path, text, daemon, target)
            changes.append(Change(path=path, before=before, after=original))
            if not untouched:
                notes.append(f"{path} was edited since the installation: only what was installed is removed")
    stays = _elsewhere(target, path)
    if not stays:
        changes += filter(None, [docker_swarm.config_restored(target)])
    link = target.path(HOOK_LINK)
    led = files.read_link(link)
    if led and os.path.basename(led) == "oci-gpu-hook" and stays:
        notes.append(f"{HOOK_LINK} stays for the Docker of {stays}")
    elif led and os.path.basename(led) == "oci-gpu-hook":
        changes.append(Change(path=link, before=led.encode(), after=None, link=True))
    if changes:
        notes.append("restart Docker: systemctl restart docker")
    return Steps(changes=tuple(changes), notes=tuple(notes))


def _elsewhere(target: Target, path: str) -> str:
    """Return the daemon.json of another Docker that has this project's runtime, "" for none."""
    if target.everything:
        return ""
    others = [each.file for each in target.others if each.engine == "docker" and each.file]
    for other in dict.fromkeys(target.path(each) for each in (FILE, *others)):
        try:
            text = files.text_of(files.read(other) or b"", other)
            if other != path and RUNTIME_NAME in docker_runtimes.ours(docker_runtimes.load(text, other)):
                return other
        except EngineFileError:
            continue  # it is not the file that is to be changed
    return ""


def check(root: str = "/") -> list[Finding]:
    """Return the findings about Docker, none if it is not installed."""
    if not programs.find(root, "dockerd"):
        return []
    path = os.path.join(root, FILE.lstrip("/"))
    remedy = "run `oci-gpu install docker`"
    try:
        daemon = docker_runtimes.load(files.text_of(files.read(path) or b"", path), path)
    except EngineFileError as error:
        return [Finding(ok=False, text=f"Docker: {error.what}: {error.why}", remedy=error.remedy)]
    findings = [*_of_runtimes(daemon, root, remedy), *docker_swarm.findings(daemon, root)]
    hook = programs.find(root, HOOK_NAME)
    if not hook:
        findings.append(Finding(ok=False, text="docker run --gpus has no hook to call", remedy=remedy))
    elif not _is_ours(os.path.join(root, hook.lstrip("/"))):
        why = "remove NVIDIA's container toolkit to have --gpus served by this hook"
        findings.append(Finding(ok=True, text=f"docker run --gpus calls another hook, {hook}", remedy=why))
    elif os.access(os.path.join(root, (files.read_link(os.path.join(root, hook[1:])) or "").lstrip("/")), os.X_OK):
        findings.append(Finding(ok=True, text=f"docker run --gpus calls this hook by {hook}"))
    else:
        findings.append(Finding(ok=False, text=f"{hook} leads to no hook that can be run", remedy=remedy))
    return findings


def _of_runtimes(daemon: dict[str, Any], root: str, remedy: str) -> Iterator[Finding]:
    there = docker_runtimes.ours(daemon)
    if RUNTIME_NAME not in there:
        yield Finding(ok=False, text=f"Docker has no runtime {RUNTIME_NAME}", remedy=remedy)
    for name, runtime in there.items():
        if not os.access(os.path.join(root, runtime.lstrip("/")), os.X_OK):
            text = f"Docker's runtime {quoted(runtime)}, by the name {quoted(name)}, cannot be run"
            yield Finding(ok=False, text=text, remedy=remedy)
        else:
            default = " (the default)" if daemon.get("default-runtime") == name else ""
            yield Finding(ok=True, text=f"Docker has the runtime {name}{default}: {runtime}")


def _check_flags(target: Target, path: str) -> None:
    """Raise an error if dockerd would not start: it accepts no setting from both command line and daemon.json."""
    for unit in _unit_files(target):
        with open(unit, encoding="utf-8", errors="replace") as file:
            commands = [line for line in file if line.lstrip().startswith("ExecStart")]
        for flag in ("--add-runtime", *(("--default-runtime",) if target.default else ())):
            if any(flag in command for command in commands):
                why = f"gives dockerd {flag}, which dockerd does not take beside the same in {quoted(path)}"
                raise EngineFileError(quoted(unit), why, f"move that setting from the unit to {path} first", "OGH1813")


def _unit_files(target: Target) -> Iterator[str]:
    for directory in _UNITS:
        base = os.path.join(target.root, directory)
        if os.path.isfile(f"{base}/docker.service"):
            yield f"{base}/docker.service"
        drop_ins = f"{base}/docker.service.d"
        if os.path.isdir(drop_ins):
            yield from (f"{drop_ins}/{name}" for name in sorted(os.listdir(drop_ins)) if name.endswith(".conf"))


def _link(target: Target) -> tuple[list[Change], list[str]]:
    """Return the change that gives dockerd its hook, and a warning if another hook is there."""
    found = programs.find(target.root, HOOK_NAME)
    if found and not _is_ours(target.path(found)):
        kept = f"docker run --gpus keeps using it, and --runtime {RUNTIME_NAME} does not need it"
        kept = f"docker run --gpus keeps using it, and --runtime {RUNTIME_NAME} does not need it"
        return [], [f"{found} belongs to other software: {kept}"]
    path = target.path(HOOK_LINK)
    led = files.read_link(path)
    if led == "" or (led and os.path.basename(led) != "oci-gpu-hook"):
        return [], [f"{HOOK_LINK} belongs to other software and stays: docker run --gpus is not served by this hook"]
    if led == target.hook:
        return [], []
    return [Change(path=path, before=led.encode() if led else None, after=target.hook.encode(), link=True)], []


def _is_ours(path: str) -> bool:
    return os.path.basename(files.read_link(path) or "") == "oci-gpu-hook"
