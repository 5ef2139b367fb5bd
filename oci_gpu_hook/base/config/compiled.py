"""The configuration's compiled form, JSON in the state directory: reading TOML costs more than the whole hook.

It is used as long as the TOML file has the identity that it had when this form was made.
"""

from __future__ import annotations

import os

from oci_gpu_hook import __version__
from oci_gpu_hook.base import limits, rootless, state
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, InvalidInput, StateError
from oci_gpu_hook.base.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

DIRECTORY: Final = ("/run/oci-gpu-hook", "config")


def identity(status: os.stat_result) -> list[int]:
    """Return what changes when a file does."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def read(path: str, made_of: list[int]) -> Config | None:
    """Return the configuration compiled from the TOML file `path` with that identity, None if there is none.

    Raises OSError if this process's user namespace cannot be read.
    """
    try:
        directory = state.existing(rootless.state_directory(DIRECTORY[0]), DIRECTORY[1])
    except StateError:
        return None
    data = state.read(os.path.join(directory, _name(path)), limits.CONFIG_COMPILED) if directory else None
    if data is None:
        return None
    try:
        document = parse(data, path)
    except InvalidInput:
        return None
    if type(document) is not dict or document.get("made") != [__version__, *made_of]:
        return None
    try:
        values: dict[str, Any] = {
            key: tuple(value) if type(value) is list else value for key, value in document["values"].items()
        }
        return Config(**values)
    except (AttributeError, KeyError, TypeError):
        return None


def write(path: str, made_of: list[int], config: Config) -> None:
    """Store the configuration of the TOML file `path`; if that fails, the next start takes longer."""
    document = {"made": [__version__, *made_of], "values": config.__dict__}
    try:
        directory = state.directory(rootless.state_directory(DIRECTORY[0]), DIRECTORY[1])
        replace_file(os.path.join(directory, _name(path)), dump(document))
    except (OSError, HookError):
        return


def _name(path: str) -> str:
    """Return the compiled form's file name: the absolute path, with `/` and `%` escaped."""
    escaped = os.path.abspath(path).replace("%", "%25").replace("/", "%2F")
    return f"{escaped}.json"
