"""config.toml: whether it can be read, and whether all of its settings have a meaning."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "configuration"


def check(host: Host) -> Iterator[Finding]:
    """Check the file, its permissions, and the paths that it names."""
    path = host.config_path
    if host.config_trouble:
        error = host.config_trouble
        why = f"{error.why}; every container that asks for a GPU fails to start with this error"
        yield Finding(check=_NAME, severity=ERROR, what=error.what, why=why, remedy=error.remedy)
        what = "the driver, the GPUs and the state directory were not looked at: where they are is not known"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy="run oci-gpu doctor again with a correct file")
        return
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        yield Finding(check=_NAME, severity=OK, what=f"there is no {path}; using defaults")
        return
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        what = f"{quoted(path)} can be written by users other than root"
        why = "the hook obeys it as root: it names the files that containers are given"
        yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=f"chown root {path}; chmod 644 {path}")
    for text in host.config.warnings:
        what = f"{quoted(path)}, {text}"
        why = "this has no effect"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy="see docs/configuration.md")
    yield from _paths(host)
    yield Finding(check=_NAME, severity=OK, what=f"{path} is read")


def _paths(host: Host) -> Iterator[Finding]:
    config = host.config
    named = {
        "[driver] root": config.driver_root,
        "[driver] dev-root": config.dev_root,
        "[driver] proc-root": config.proc_root,
        "[driver] sys-root": config.sys_root,
    }
    for key, path in named.items():
        if not os.path.isdir(path):
            what = f"{key} names {quoted(path)}, which is not a directory"
            why = "the driver is looked for there and nowhere else"
            yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy="correct it, or remove the line")
    for path in config.library_search_paths:
        if not os.path.isdir(os.path.join(config.driver_root, path.lstrip("/"))):
            what = f"library-search-paths names {quoted(path)}, which is not a directory of the driver root"
            yield Finding(check=_NAME, severity=NOTE, what=what, remedy="remove it if the driver has moved")
    directory = os.path.dirname(config.log_file)
    if config.log_file and not os.path.isdir(directory):
        what = f"the log {quoted(config.log_file)} cannot be written"
        why = f"{quoted(directory)} is not a directory; containers start, their events are lost"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=f"mkdir -p {directory}")
