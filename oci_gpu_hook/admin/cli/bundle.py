"""Reads a bundle on disk that no engine has started."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted, reason
from oci_gpu_hook.oci.container import State, parse_config, read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.oci.container import Container


def read(bundle: str) -> Container:
    """Return the container of a bundle, which its config.json may stand for. Raises InvalidInput."""
    bundle = os.path.abspath(bundle)
    if os.path.basename(bundle) == "config.json" and os.path.isfile(bundle):
        bundle = os.path.dirname(bundle)
    try:
        os.lstat(os.path.join(bundle, "config.json"))
    except PermissionError as error:
        remedy = "run this as root"
        raise InvalidInput(f"bundle {quoted(bundle)}", reason(error), remedy, "OGH1903") from None
    except OSError:
        remedy = "name the directory that an engine hands to its runtime (docs/getting-started.md)"
        raise InvalidInput(f"bundle {quoted(bundle)}", "has no config.json", remedy, "OGH1904") from None
    state = State(id=os.path.basename(bundle), pid=0, bundle=bundle, root="", annotations={})
    return parse_config(read_config(bundle), state)
