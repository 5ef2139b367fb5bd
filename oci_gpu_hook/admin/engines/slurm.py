"""Slurm: oci.conf, by which slurmstepd makes the containers of `--container`, and gres.conf, which has the node's GPUs.

Both are beside slurm.conf, which belongs to the whole cluster and is left to the operator, as is cgroup.conf. Lines of
others in oci.conf that call a runtime give way, since Slurm takes one only; all else in both files stays.
"""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import files, gpus, programs
from oci_gpu_hook.admin.engines import slurm_files as texts
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, Change, Finding, Steps
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.entrypoints.slurm.choice import constrains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

DIRECTORY: Final = "/etc/slurm"
_OLDEST: Final = (21, 8)
_CALLS: Final = "calls"
_RESTART: Final = "restart Slurm: systemctl restart slurmctld, and on each node systemctl restart slurmd (jobs go on)"
_CONSTRAIN: Final = "ConstrainDevices=yes"


def executable(target: Target) -> str:
    """Return what oci.conf calls, as a path in the target's file system."""
    return os.path.join(os.path.dirname(target.hook), texts.EXECUTABLE)


def install(target: Target) -> Steps:
    """Return what installs both files. Raises HookError; nothing is changed by this."""
    if not target.file:
        programs.require(target.root, "slurmd", _OLDEST, "`--container`")
    if not target.runtime:
        raise EngineFileError(
            texts.EXECUTABLE, "found neither runc nor crun on PATH", "install runc (apt install runc)", "OGH1803"
        )
    directory = _directory(target)
    changes = []
    path = os.path.join(directory, "oci.conf")
    before = files.read(path)
    text = files.text_of(before or b"", path)
    texts.without_block(text, _CALLS, path)  # which sees whether it is whole
    after = texts.oci_conf(text, executable(target))
    if after != text:
        changes.append(Change(path=path, before=before, after=after.encode(), backup=texts.begin(_CALLS) not in text))
    node = _node_name()
    of_node, notes, warnings = _gpus(target, node)
    changes += of_node
    notes += _left_to_do(directory)
    if changes:
        notes.append(_RESTART)
    notes.append("start containers with: srun --gres=gpu:1 --container=BUNDLE COMMAND (docs/slurm.md)")
    return Steps(changes=tuple(changes), notes=tuple(notes), warnings=tuple(warnings))


def uninstall(target: Target) -> Steps:
    """Return what takes both away again. Raises HookError; nothing is changed by this."""
    directory = _directory(target)
    changes = []
    notes = []
    for name, what in (("oci.conf", _CALLS), ("gres.conf", _node_name())):
        path = os.path.join(directory, name)
        before = files.read(path)
        text = files.text_of(before or b"", path)
        bare = texts.without_block(text, what, path)
        if before is None or bare == text:
            continue
        backup = files.read(path + BACKUP_SUFFIX)
        untouched = bare == _kept(name, files.text_of(backup or b"", path))
        if not untouched:
            notes.append(f"{path} was edited since the installation: only what was installed is removed")
        changes.append(Change(path=path, before=before, after=backup if untouched else bare.encode()))
    if changes:
        notes.append(_RESTART)
    return Steps(changes=tuple(changes), notes=tuple(notes))


def check(root: str = "/") -> list[Finding]:
    """Return what there is to say about Slurm; nothing where no slurmd is installed."""
    if not programs.find(root, "slurmd"):
        return []
    directory = os.path.join(root, DIRECTORY.lstrip("/"))
    remedy = "run `oci-gpu install slurm`"
    path = os.path.join(directory, "oci.conf")
    try:
        text = files.text_of(files.read(path) or b"", path)
        cgroup_conf = _read(directory, "cgroup.conf")
    except HookError as error:
        return [Finding(ok=False, text=f"Slurm: {error.what}: {error.why}", remedy=error.remedy)]
    called = texts.executable_of(text)
    if os.path.basename(called) != texts.EXECUTABLE:
        text = "Slurm is not set up to start containers (srun --container)"
        if called:
            text = f"Slurm starts containers by {quoted(called)}, which gives them no GPUs"
        return [Finding(ok=False, text=text, remedy=remedy)]
    if not texts.is_executable(root, called):
        return [Finding(ok=False, text=f"Slurm's {quoted(called)} cannot be run", remedy=remedy)]
    if root == "/" and not os.access(texts.interpreter_of(called), os.X_OK):
        text = f"Slurm's {called} starts {quoted(texts.interpreter_of(called))}, which is gone"
        return [Finding(ok=False, text=text, remedy="run `oci-gpu hook-path` as root, after each upgrade of Python")]
    findings = [Finding(ok=True, text=f"Slurm runs containers by {called}")]
    if not constrains(cgroup_conf):
        text = "Slurm does not constrain devices: jobs can open each other's GPUs"
        findings.append(Finding(ok=False, text=text, remedy=f"set {_CONSTRAIN} in {directory}/cgroup.conf"))
    return findings


def _directory(target: Target) -> str:
    """Return where the files are. Raises EngineFileError where no such directory is."""
    path = target.path(os.path.dirname(target.file) if target.file else DIRECTORY)
    if not os.path.isdir(path):
        raise EngineFileError(quoted(path), "is not a directory", "name slurm.conf where it is: --file FILE", "OGH1802")
    return path


def _gpus(target: Target, node: str) -> tuple[list[Change], list[str], list[str]]:
    """Return the change of gres.conf, with notes and warnings."""
    path = os.path.join(_directory(target), "gres.conf")
    before = files.read(path)
    text = files.text_of(before or b"", path)
    bare = texts.without_block(text, node, path)
    if bare == text and texts.has_gpus(texts.of_others(text)):
        return [], [f"{path} has GPUs already and stays as it is; its lines must be in the order of `oci-gpu info`"], []
    if target.root != "/":
        return [], [f"run `oci-gpu install slurm` on the node too: only there are the GPUs for {path}"], []
    try:
        lines = _lines(target.config, node)
    except HookError as error:
        return [], [], [f"{path} is not written: {error.what}: {error.why}"]
    after = texts.with_block(text, node, lines)
    notes = [f"in slurm.conf: GresTypes=gpu, and for the node: NodeName={node} Gres={texts.counts(lines)}"]
    if after == text:
        return [], notes, []
    first = texts.begin(node) not in text
    return [Change(path=path, before=before, after=after.encode(), backup=first)], notes, []


def _lines(config_path: str, node: str) -> list[str]:
    """Return the lines of gres.conf for this host's GPUs. Raises HookError where they are not known."""
    from oci_gpu_hook.base.config import load as configs
    from oci_gpu_hook.devices.nvidia import snapshot

    config = configs.of_this_user(configs.load(config_path))
    names = {gpu.uuid: gpu.name for gpu in snapshot.load(config, detailed=True, refresh=True).gpus}
    return texts.gres_lines(node, gpus.with_nodes(config_path), names)


def _left_to_do(directory: str) -> Iterator[str]:
    """Yield what slurm.conf and cgroup.conf still lack, which are the operator's."""
    slurm_conf, cgroup_conf = _read(directory, "slurm.conf"), _read(directory, "cgroup.conf")
    for name, wanted in (
        ("GresTypes", "gpu"),
        ("ProctrackType", "proctrack/cgroup"),
        ("TaskPlugin", "task/cgroup"),
        ("SelectType", "select/cons_tres"),
    ):
        if wanted not in texts.value_of(slurm_conf, name).split(","):
            yield f"in slurm.conf: {name}={wanted}" + (" (beside others)" if name == "TaskPlugin" else "")
    if not constrains(cgroup_conf):
        yield f"in cgroup.conf: {_CONSTRAIN}; without it jobs can open each other's GPUs"


def _kept(name: str, text: str) -> str:
    """Return what `install` keeps of a file."""
    if name != "oci.conf":
        return text if not text or text.endswith("\n") else f"{text}\n"
    return texts.without_block(texts.oci_conf(text, ""), _CALLS, name)


def _read(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    return files.text_of(files.read(path) or b"", path)


def _node_name() -> str:
    return os.uname().nodename.partition(".")[0]
