"""The container that `plan` and `request` are told: a bundle on disk, or a running container by name."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted, reason
from oci_gpu_hook.lifecycle import running
from oci_gpu_hook.oci.container import State, parse_config, read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.oci.container import Container


def read(name: str, runtime_root: str = "") -> Container:
    """Return the container of a bundle, which its config.json may stand for, or a running one. Raises InvalidInput.

    A running container has the pid of its first process; the container of a bundle that was not started has pid 0.
    """
    bundle = os.path.abspath(name)
    if os.path.basename(bundle) == "config.json" and os.path.isfile(bundle):
        bundle = os.path.dirname(bundle)
    is_bundle = _is_bundle(bundle)
    found = running.of_bundle(bundle, runtime_root) if is_bundle else None
    if not is_bundle and "/" not in name:
        found = running.meant(name, runtime_root)
    if found:
        return running.container_of(found)
    if not is_bundle:
        what, why = (bundle, "has no config.json") if os.path.isdir(bundle) else (name, "is not a running container")
        where = "the directory that an engine hands to its runtime (docs/getting-started.md)"
        root = "" if os.geteuid() == 0 else ", which root alone may see"
        remedy = f"name {where}, or a running container{root}"
        raise InvalidInput(f"bundle {quoted(what)}", why, remedy, "OGH1904")
    state = State(id=os.path.basename(bundle), pid=0, bundle=bundle, root="", annotations={})
    return parse_config(read_config(bundle), state)


def _is_bundle(bundle: str) -> bool:
    try:
        os.lstat(os.path.join(bundle, "config.json"))
    except PermissionError as error:
        raise InvalidInput(f"bundle {quoted(bundle)}", reason(error), "run this as root", "OGH1903") from None
    except OSError:
        return False
    return True
