"""Reads a bundle on disk that no engine has started."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci.container import State, parse_config, read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.oci.container import Container


def read(bundle: str) -> Container:
    """Return the container of a bundle, which its config.json may stand for. Raises InvalidInput."""
    bundle = os.path.abspath(bundle)
    if os.path.basename(bundle) == "config.json" and os.path.isfile(bundle):
        bundle = os.path.dirname(bundle)
    if not os.path.lexists(os.path.join(bundle, "config.json")):
        remedy = "name the directory that an engine hands to its runtime (docs/getting-started.md)"
        raise InvalidInput(f"bundle {quoted(bundle)}", "has no config.json", remedy)
    state = State(id=os.path.basename(bundle), pid=0, bundle=bundle, root="", annotations={})
    return parse_config(read_config(bundle), state)
