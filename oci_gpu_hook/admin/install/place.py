"""Where the executables are that engines start."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SYSTEM_DIRECTORY: Final = "/usr/libexec/oci-gpu-hook"


def default_directory() -> str:
    """Return the directory of the executables: in the virtual environment, system or user directory of the package."""
    if sys.prefix != sys.base_prefix:
        return os.path.join(sys.prefix, "libexec", "oci-gpu-hook")
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    import site

    return os.path.join(site.getuserbase(), "libexec", "oci-gpu-hook")


def installed_directory() -> str:
    """Return where the executables are: in the default directory, otherwise where root has installed them for all."""
    own = default_directory()
    for directory in (own, SYSTEM_DIRECTORY):
        if os.path.exists(os.path.join(directory, "oci-gpu-hook")):
            return directory
    return own
