"""The configuration: /etc/oci-gpu-hook/config.toml as one value.

Reading TOML costs more than the whole hook, so a compiled form (JSON) is kept under COMPILED_DIRECTORY. It is good for
as long as the source's identity is the one it was made of; config_source.py makes it.
"""

from __future__ import annotations

import os

from oci_gpu_hook import __version__
from oci_gpu_hook.base import rootless, state
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

DEFAULT_PATH: Final = "/etc/oci-gpu-hook/config.toml"
COMPILED_DIRECTORY: Final = ("/run/oci-gpu-hook", "config")
LARGEST_CONFIG: Final = 256 * 1024
DRIVER_CAPABILITIES: Final = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")


class Config(Record):
    """Every key of config.toml with its default; the names are the keys', in snake_case."""

    driver_root: str = "/"
    dev_root: str = "/"
    proc_root: str = "/proc"
    sys_root: str = "/sys"
    library_search_paths: tuple[str, ...] = ()
    driver_volume: str = ""

    accept_envvar_when_unprivileged: bool = True
    accept_volume_mounts: bool = False
    swarm_resource: tuple[str, ...] = ()
    supported_driver_capabilities: tuple[str, ...] = DRIVER_CAPABILITIES
    disable_require: bool = False
    cuda_compat_mode: str = "ldconfig"

    allocation_policy: str = "shared"
    allocation_indices: str = "names"
    state_dir: str = "/run/oci-gpu-hook"
    log_level: str = "info"
    log_file: str = ""

    warnings: tuple[str, ...] = ()


def load(path: str) -> Config:
    """Return the configuration of a file, the defaults where there is no file. Raises ConfigError."""
    try:
        made_of = identity(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except (OSError, ValueError) as error:
        from oci_gpu_hook.base.config import source

        raise source.unreadable(path, error) from None
    name = _compiled_name(path)
    found = _compiled(name, made_of)
    if found is None:
        from oci_gpu_hook.base.config import source

        found = source.load(path, name)
    return found


def of_this_user(config: Config) -> Config:
    """Return the configuration with a state directory that this process can use (`rootless.state_directory`)."""
    directory = rootless.state_directory(config.state_dir)
    return config if directory == config.state_dir else config.replace(state_dir=directory)


def _compiled(name: str, made_of: list[int]) -> Config | None:
    directory = rootless.state_directory(COMPILED_DIRECTORY[0])
    data = state.read(os.path.join(directory, COMPILED_DIRECTORY[1], name), 2 * LARGEST_CONFIG)
    if data is None:
        return None
    try:
        document = parse(data, name)
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


def identity(status: os.stat_result) -> list[int]:
    """Return what changes when a file does."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _compiled_name(path: str) -> str:
    """Return the compiled form's file name: the absolute path, with `/` and `%` escaped."""
    escaped = os.path.abspath(path).replace("%", "%25").replace("/", "%2F")
    return f"{escaped}.json"
