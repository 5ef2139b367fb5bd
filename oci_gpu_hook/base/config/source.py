"""The configuration from its source: what a start does once after config.toml has changed."""

from __future__ import annotations

import os
from time import time_ns

from oci_gpu_hook import __version__
from oci_gpu_hook.base import rootless, state
from oci_gpu_hook.base.config import config
from oci_gpu_hook.base.config.toml import parse
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import ConfigError, HookError, InvalidInput, quoted, reason
from oci_gpu_hook.base.files import read_all, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.config import Config

# A file can change twice within one tick of the file system's clock (at most 10 ms, CONFIG_HZ=100) and keep its times.
_SETTLED_NS: Final = 100_000_000


def load(path: str, name: str) -> Config:
    """Return the configuration of a TOML file, and store its compiled form as `name`. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            identity = config.identity(os.fstat(fd))
            text = read_all(fd, config.LARGEST_CONFIG, path).decode("utf-8")
        finally:
            os.close(fd)
    except UnicodeDecodeError as error:
        remedy = "save it as UTF-8, which is what TOML is"
        raise ConfigError(quoted(path), f"is not UTF-8 at byte {error.start}", remedy) from None
    except InvalidInput as error:
        raise ConfigError(quoted(path), error.why, error.remedy) from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        found = parse(text)
    except ConfigError as error:
        raise ConfigError(error.what.replace("configuration", quoted(path), 1), error.why, error.remedy) from None
    if _is_settled(identity):
        _store(name, {"made": [__version__, *identity], "values": found.__dict__})
    return found


def _store(name: str, document: dict[str, Any]) -> None:
    try:
        directory = rootless.state_directory(config.COMPILED_DIRECTORY[0])
        replace_file(os.path.join(state.directory(directory, config.COMPILED_DIRECTORY[1]), name), dump(document))
    except (OSError, HookError):  # a read-only or foreign directory only costs time
        return


def _is_settled(identity: list[int]) -> bool:
    return max(identity[3:]) + _SETTLED_NS < time_ns()


def unreadable(path: str, error: Exception) -> ConfigError:
    """Return the error for a configuration that cannot be read."""
    why = reason(error) if isinstance(error, OSError) else "is no path"
    return ConfigError(f"cannot read {quoted(path)}", why, "make it a file that root can read, or remove it")
