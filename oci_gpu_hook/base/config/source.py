"""Reads the configuration from its TOML file, which a start does once after the file has changed."""

from __future__ import annotations

import os
from time import time_ns

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config import compiled
from oci_gpu_hook.base.config.toml import parse
from oci_gpu_hook.base.errors import ConfigError, InvalidInput, quoted, reason
from oci_gpu_hook.base.files import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

# A file can change twice within one tick of the file system's clock (at most 10 ms, CONFIG_HZ=100) and keep its times.
_SETTLED_NS: Final = 100_000_000


def load(path: str, *, keep: bool = True) -> Config:
    """Return the configuration of a TOML file, and store its compiled form if it is to be kept. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            identity = compiled.identity(os.fstat(fd))
            text = read_all(fd, limits.CONFIG_TOML, path).decode("utf-8")
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
    if keep and _is_settled(identity):
        compiled.write(path, identity, found)
    return found


def _is_settled(identity: list[int]) -> bool:
    return max(identity[3:]) + _SETTLED_NS < time_ns()


def unreadable(path: str, error: Exception) -> ConfigError:
    """Return the error for a configuration that cannot be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ConfigError(
            quoted(path), "does not exist", "name another file with --config, or leave it out", "OGH1102"
        )
    why = reason(error) if isinstance(error, OSError) else "is not a valid path"
    return ConfigError(f"cannot read {quoted(path)}", why, "make it a file that root can read, or remove it", "OGH1103")
