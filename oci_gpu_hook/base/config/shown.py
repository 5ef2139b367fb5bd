"""Writes a configuration as the text of a config.toml, for people."""

from __future__ import annotations

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import _SECTIONS
from oci_gpu_hook.base.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def text(config: Config) -> str:
    """Return every key with its value; those that have their default are marked if the configuration has others."""
    default = Config()
    is_default = config.replace(warnings=()) == default
    lines: list[str] = []
    for section, keys in _SECTIONS.items():
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        for name, key in keys.items():
            value = getattr(config, key.field)
            mark = "" if is_default or value != getattr(default, key.field) else "  # default"
            lines.append(f"{name} = {_written(key.read, value)}{mark}")
    return "\n".join(lines) + "\n"


def _written(read: Callable[[str, object], Any], value: Any) -> str:
    """Return the form of a value in TOML: the first that the key's own reader reads as this value."""
    import json

    for form in _forms(value):
        try:
            if read("", form) == value:
                return json.dumps(form)  # TOML's strings, lists and booleans are JSON's
        except ConfigError:
            continue
    raise AssertionError(f"no form of {value!r}")


def _forms(value: Any) -> Iterator[object]:
    if type(value) is tuple:
        yield "all"
        yield ",".join(value)
        yield list(value)
    elif value is None:
        yield ""
    elif type(value) is int:
        yield f"{value}s"
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)):
            if value % size == 0:
                yield f"{value // size}{unit}"
    yield value
