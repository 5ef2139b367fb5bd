"""The configuration: /etc/oci-gpu-hook/config.toml as one value.

Reading TOML costs more than the whole hook, so a compiled form (JSON) is kept under COMPILED_DIRECTORY. It is good for
as long as the source's identity is the one it was made of.
"""

from __future__ import annotations

import os

from oci_gpu_hook import __version__, rootless, state
from oci_gpu_hook.document import dump, read_all
from oci_gpu_hook.document import parse as parse_json
from oci_gpu_hook.errors import ConfigError, HookError, InvalidInput, quoted, reason
from oci_gpu_hook.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

DEFAULT_PATH: Final = "/etc/oci-gpu-hook/config.toml"
COMPILED_DIRECTORY: Final = ("/run/oci-gpu-hook", "config")
LARGEST_CONFIG: Final = 256 * 1024
DRIVER_CAPABILITIES: Final = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")
# A file can change twice within one tick of the file system's clock (at most 10 ms, CONFIG_HZ=100) and keep its times.
_SETTLED_NS: Final = 100_000_000


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


def parse(text: str) -> Config:
    """Make the value of a config.toml. Raises ConfigError with the key, what was found and what was expected."""
    from oci_gpu_hook.config_toml import parse as parse_toml

    return parse_toml(text)


def load(path: str) -> Config:
    """Return the configuration of a file, the defaults where there is no file. Raises ConfigError."""
    try:
        identity = _identity(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    name = _compiled_name(path)
    return _compiled(name, identity) or _parsed(path, name)


def of_this_user(config: Config) -> Config:
    """Return the configuration with a state directory that this process can use (`rootless.state_directory`)."""
    directory = rootless.state_directory(config.state_dir)
    return config if directory == config.state_dir else Config(**{**config.__dict__, "state_dir": directory})


def _compiled(name: str, identity: list[int]) -> Config | None:
    directory = rootless.state_directory(COMPILED_DIRECTORY[0])
    data = state.read(os.path.join(directory, COMPILED_DIRECTORY[1], name), 2 * LARGEST_CONFIG)
    if data is None:
        return None
    try:
        document = parse_json(data, name)
    except InvalidInput:
        return None
    if type(document) is not dict or document.get("made") != [__version__, *identity]:
        return None
    try:
        values: dict[str, Any] = {
            key: tuple(value) if type(value) is list else value for key, value in document["values"].items()
        }
        return Config(**values)
    except (AttributeError, KeyError, TypeError):
        return None


def _parsed(path: str, name: str) -> Config:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            identity = _identity(os.fstat(fd))
            text = read_all(fd, LARGEST_CONFIG, path).decode("utf-8")
        finally:
            os.close(fd)
    except UnicodeDecodeError as error:
        remedy = "save it as UTF-8, which is what TOML is"
        raise ConfigError(quoted(path), f"is not UTF-8 at byte {error.start}", remedy) from None
    except InvalidInput as error:
        raise ConfigError(quoted(path), error.why, error.remedy) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        config = parse(text)
    except ConfigError as error:
        raise ConfigError(error.what.replace("configuration", quoted(path), 1), error.why, error.remedy) from None
    if _is_settled(identity):
        _store(name, {"made": [__version__, *identity], "values": config.__dict__})
    return config


def _store(name: str, document: dict[str, Any]) -> None:
    try:
        directory = rootless.state_directory(COMPILED_DIRECTORY[0])
        state.write(os.path.join(state.directory(directory, COMPILED_DIRECTORY[1]), name), dump(document))
    except (OSError, HookError):  # a read-only or foreign directory only costs time
        return


def _is_settled(identity: list[int]) -> bool:
    from time import time_ns

    return max(identity[3:]) + _SETTLED_NS < time_ns()


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _compiled_name(path: str) -> str:
    """Return the compiled form's file name: the absolute path, with `/` and `%` escaped."""
    escaped = os.path.abspath(path).replace("%", "%25").replace("/", "%2F")
    return f"{escaped}.json"


def _unreadable(path: str, error: Exception) -> ConfigError:
    why = reason(error) if isinstance(error, OSError) else "is no path"
    return ConfigError(f"cannot read {quoted(path)}", why, "make it a file that root can read, or remove it")
