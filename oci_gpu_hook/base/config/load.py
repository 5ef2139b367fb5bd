"""Loads the configuration: from its compiled form while that is valid, otherwise from the TOML file."""

from __future__ import annotations

import os

from oci_gpu_hook.base import rootless
from oci_gpu_hook.base.config import compiled
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT_PATH: Final = "/etc/oci-gpu-hook/config.toml"


def load(path: str, *, keep: bool = True) -> Config:
    """Return the configuration in a file, or the defaults if the usual file does not exist. Raises ConfigError.

    keep: False for who only looks, and must store no compiled form.
    """
    try:
        made_of = compiled.identity(os.stat(path))
    except (OSError, ValueError) as error:
        if path == DEFAULT_PATH and isinstance(error, FileNotFoundError | NotADirectoryError):
            return Config()
        from oci_gpu_hook.base.config import source

        raise source.unreadable(path, error) from None
    found = compiled.read(path, made_of)
    if found is None:
        from oci_gpu_hook.base.config import source

        found = source.load(path, keep=keep)
    return found


def load_or_defaults(path: str, *, keep: bool = True) -> tuple[Config, ConfigError | None]:
    """Return the configuration, or the defaults and what is wrong with it.

    A configuration that cannot be used must fail only containers that ask for a GPU; the defaults are enough to tell
    which containers those are.
    """
    try:
        return load(path, keep=keep), None
    except ConfigError as error:
        return Config(), error


def of_this_user(config: Config) -> Config:
    """Return the configuration with a state directory that this process can use (`rootless.state_directory`)."""
    directory = rootless.state_directory(config.state_dir)
    return config if directory == config.state_dir else config.replace(state_dir=directory)
