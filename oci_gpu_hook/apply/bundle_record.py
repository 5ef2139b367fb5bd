"""What oci-gpu-runtime has put into a bundle of what CDI specifications describe: STATE/bundles, one file a bundle.

A bundle may be started again, and be granted other devices then: what was put in before is taken out first. The record
stands here, where only this project writes, and not in the bundle, whose annotations anybody may choose.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, StateError, quoted, reason
from oci_gpu_hook.base.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config

DIRECTORY: Final = "bundles"
_SWEPT: Final = 64  # records that one start looks at


def write(bundle: str, record: dict[str, Any], config: Config) -> None:
    """Keep the record of a bundle. Raises StateError, without which nothing may be put into the bundle."""
    path = os.path.realpath(bundle)
    try:
        directory = state.directory(config.state_dir, DIRECTORY)
        _sweep(directory)
        replace_file(os.path.join(directory, _name(path)), dump({"bundle": path, **record}))
    except OSError as error:
        what = f"cannot keep what is put into the bundle {quoted(bundle)}"
        raise StateError(what, reason(error), "make room in the state directory ([state] dir)", "OGH1506") from None


def read(bundle: str, config: Config) -> dict[str, Any] | None:
    """Return the record of a bundle; None where there is none that can be read."""
    path = os.path.realpath(bundle)
    try:
        directory = state.existing(config.state_dir, DIRECTORY)
        file = os.path.join(directory, _name(path)) if directory else ""
        data = state.read(file, limits.CONFIG_JSON) if file else None
        if data is None:
            return None
        record = parse(data, DIRECTORY)
    except (HookError, OSError):
        return None
    return record if type(record) is dict and record.get("bundle") == path else None


def _sweep(directory: str) -> None:
    """Drop the records of bundles that are gone."""
    for name in os.listdir(directory)[:_SWEPT]:
        file = os.path.join(directory, name)
        try:
            record = parse(state.read(file, limits.CONFIG_JSON) or b"{}", DIRECTORY)
            if type(record) is dict and not os.path.isdir(record.get("bundle", "")):
                os.unlink(file)
        except (HookError, OSError, TypeError):
            continue


def _name(bundle: str) -> str:
    """Return the name of a bundle's record, which no other bundle has."""
    from _blake2 import blake2b

    return blake2b(os.fsencode(bundle), digest_size=20).hexdigest() + ".json"
