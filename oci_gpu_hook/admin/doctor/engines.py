"""Engines: which are installed, and whether they call the hook."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.admin.engines import known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "engines"


def check(host: Host) -> Iterator[Finding]:
    """Run the `check` of each engine's module."""
    found = {name: known.module(name).check(host.root) for name in known.NAMES}
    present = [name for name in known.NAMES if found[name]]
    for name in present:
        # Docker comes with containerd, and needs no handler in it; only Kubernetes does.
        expected = name != "containerd" or "docker" not in present
        for said in found[name]:
            if said.ok:
                yield Finding(check=_NAME, severity=OK, what=said.text, remedy=said.remedy)
            else:
                severity = WARNING if expected else NOTE
                why = f"{known.CALLED[name]} containers that request GPUs will not get them"
                yield Finding(check=_NAME, severity=severity, what=said.text, why=why, remedy=said.remedy)
    if not present:
        what = f"none of {', '.join(known.NAMES)} is installed"
        remedy = "to use runc or crun alone, register the hook in config.json (docs/getting-started.md)"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy=remedy)
