"""Parses config.toml. Imported only when no compiled form is valid: tomllib costs twice as much as the interpreter.

The keys of [request] are NVIDIA's (nvidia-container-toolkit, config.toml); lines copied from there, where these keys
stand at the top level, are accepted as they are, and NVIDIA's own sections are skipped with a warning.
"""

from __future__ import annotations

import tomllib  # noqa: TID253
from difflib import get_close_matches

from oci_gpu_hook.base import amounts, duration
from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES, Config
from oci_gpu_hook.base.errors import ConfigError, one_line, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_REMEDY: Final = "correct the configuration file; docs/configuration.md has its keys"


def parse(text: str) -> Config:
    """Return the configuration that the text of a config.toml describes. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError("configuration", f"is not TOML: {one_line(str(error))}", _REMEDY) from None
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in document.items():
        if name in _SECTIONS:
            _read_section(text, name, value, values, warnings)
        elif name in _SECTIONS["request"]:
            pass  # NVIDIA's file has these keys here; they are read last, since [request] wins
        elif name in _NVIDIA_SECTIONS:
            warnings.append(f"{_place(text, '', name)}[{name}] is NVIDIA's section and is not used here")
        else:
            warnings.append(_unknown(text, "", name, [*_SECTIONS, *_SECTIONS["request"]]))
    for name, key in _SECTIONS["request"].items():
        if name not in document:
            continue
        value = _value(text, "", name, key, document[name])
        if key.field in values:
            warnings.append(f"{_place(text, '', name)}{name} is also set in [request], which wins")
        values.setdefault(key.field, value)
    return Config(**values, warnings=tuple(warnings))


def _read_section(text: str, section: str, value: object, values: dict[str, Any], warnings: list[str]) -> None:
    if type(value) is not dict:
        raise _wrong(section, value, f"a section, [{section}]")
    keys = _SECTIONS[section]
    for name, found in value.items():
        if name in keys:
            values[keys[name].field] = _value(text, section, name, keys[name], found)
        else:
            warnings.append(_unknown(text, section, name, keys))


def _value(text: str, section: str, name: str, key: _Key, found: object) -> Any:
    """Return a key's value. Raises ConfigError, which names the key's line."""
    try:
        return key.read(f"[{section}] {name}" if section else name, found)
    except ConfigError as error:
        place = _place(text, section, name).removesuffix(": ")
        raise ConfigError(error.what, error.why + (f" ({place})" if place else ""), error.remedy) from None


def _unknown(text: str, section: str, name: str, known: object) -> str:
    warning = f"{_place(text, section, name)}unknown key {quoted(name)}" + (f" in [{section}]" if section else "")
    homes = [home for home, keys in _SECTIONS.items() if name in keys and home != section]
    if homes:
        return f"{warning}; did you mean it below [{homes[0]}]?"
    close = get_close_matches(name, known, 1)  # type: ignore[call-overload]
    return f"{warning}; did you mean {close[0]!r}?" if close else warning


def _place(text: str, section: str, name: str) -> str:
    """Return the line of a key or section ("line 3: "), "" if it cannot be found by a simple search."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("["):
            current = bare.strip("[]").split("]")[0].strip().strip("\"'")
            if not section and (current == name or current.startswith(name + ".")):
                return f"line {number}: "
        elif current == section and bare.split("=")[0].strip().strip("\"'") == name:
            return f"line {number}: "
    return ""


def _wrong(key: str, found: object, expected: str) -> ConfigError:
    return ConfigError(f"configuration: {key}", f"expected {expected}, found {quoted(found)}", _REMEDY)


def _boolean(key: str, value: object) -> bool:
    if type(value) is not bool:
        raise _wrong(key, value, "true or false")
    return value


def _text(key: str, value: object) -> str:
    if type(value) is not str or "\0" in value:
        raise _wrong(key, value, "a string")
    return value


def _path(key: str, value: object) -> str:
    text = _text(key, value)
    if not text.startswith("/"):
        raise _wrong(key, value, "an absolute path")
    return "/" + text.strip("/")


def _path_or_nothing(key: str, value: object) -> str:
    return "" if value == "" else _path(key, value)


def _paths(key: str, value: object) -> tuple[str, ...]:
    if type(value) is not list:
        raise _wrong(key, value, "a list of absolute paths")
    return tuple(_path(key, item) for item in value)


def _names(key: str, value: object) -> tuple[str, ...]:
    """Read a comma-separated list, the form that NVIDIA's file uses."""
    return tuple(name for item in _text(key, value).split(",") if (name := item.strip()))


def _devices(key: str, value: object) -> tuple[str, ...]:
    """Read names of devices or products; an index may be written as a number."""
    if type(value) is not list:
        raise _wrong(key, value, "a list of indices, UUIDs and product names")
    for item in value:
        if not ((type(item) is int and item >= 0) or (type(item) is str and item.strip() and "\0" not in item)):
            raise _wrong(key, item, "an index, a UUID or a product name")
    return tuple(str(item).strip() for item in value)


def _capabilities(key: str, value: object) -> tuple[str, ...]:
    names = _names(key, value)
    for name in names:
        if name not in (*DRIVER_CAPABILITIES, "all"):
            raise _wrong(key, name, f'"all" or a list of {", ".join(DRIVER_CAPABILITIES)}')
    return tuple(name for name in DRIVER_CAPABILITIES if name in names or "all" in names)


def _seconds_or_nothing(key: str, value: object) -> int | None:
    """Read a time in the form of OCI_GPU_WAIT; "" means no limit."""
    if not _text(key, value).strip():
        return None
    seconds = duration.seconds(_text(key, value))
    if seconds is None:
        raise _wrong(key, value, 'a whole number and s, m or h, such as "10m", or ""')
    return seconds


def _kind_or_nothing(key: str, value: object) -> str:
    text = _text(key, value).strip()
    vendor, slash, device_class = text.partition("/")
    if text and not (slash and all(map(_is_of_kind, (vendor, device_class)))):
        raise _wrong(key, value, 'vendor/class, such as "nvidia.com/gpu" or "amd.com/gpu", or ""')
    return text


def _is_of_kind(part: str) -> bool:
    """Tell whether a text is a vendor or a class as CDI has them."""
    return part[:1].isalpha() and part[-1:].isalnum() and part.isascii() and not set("/=, ").intersection(part)


def _seconds(key: str, value: object) -> int:
    """Read a time of a second and more, in the same form."""
    seconds = duration.seconds(_text(key, value))
    if not seconds:
        raise _wrong(key, value, 'a whole number of at least 1 and s, m or h, such as "30s"')
    return seconds


def _size(key: str, value: object) -> int:
    """Read an amount of memory in the form of OCI_GPU_MEMORY."""
    found = amounts.size(_text(key, value))
    if found is None:
        raise _wrong(key, value, amounts.FORM.replace("40GiB", "1GiB"))
    return found


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def read(key: str, value: object) -> str:
        if value not in choices:
            raise _wrong(key, value, f"one of {', '.join(choices)}")
        return str(value)

    return read


class _Key(Record):
    """Which field of Config a key sets, and the function that reads its value."""

    field: str
    read: Callable[[str, object], Any]


def _key(field: str, read: Callable[[str, object], Any]) -> _Key:
    return _Key(field=field, read=read)


_SECTIONS: Final = {
    "driver": {
        "root": _key("driver_root", _path),
        "dev-root": _key("dev_root", _path),
        "proc-root": _key("proc_root", _path),
        "sys-root": _key("sys_root", _path),
        "library-search-paths": _key("library_search_paths", _paths),
        "volume": _key("driver_volume", _path_or_nothing),
        "mps-pipe-directory": _key("mps_pipe_directory", _path_or_nothing),
    },
    "request": {
        "accept-nvidia-visible-devices-envvar-when-unprivileged": _key("accept_envvar_when_unprivileged", _boolean),
        "accept-nvidia-visible-devices-as-volume-mounts": _key("accept_volume_mounts", _boolean),
        "swarm-resource": _key("swarm_resource", _names),
        "supported-driver-capabilities": _key("supported_driver_capabilities", _capabilities),
        "disable-require": _key("disable_require", _boolean),
        "cuda-compat-mode": _key("cuda_compat_mode", _one_of("ldconfig", "mount", "disabled", "hook")),
        "mps": _key("mps", _one_of("asked", "always")),
        "nested-proc": _key("nested_proc", _boolean),
        "image-may-ask": _key("image_may_ask", _one_of("yes", "warn", "no")),
    },
    "allocation": {
        "policy": _key("allocation_policy", _one_of("shared", "exclusive")),
        "indices": _key("allocation_indices", _one_of("names", "count")),
        "exclude": _key("allocation_exclude", _devices),
        "default-kind": _key("allocation_default_kind", _kind_or_nothing),
        "longest-wait": _key("allocation_longest_wait", _seconds_or_nothing),
        "longest-hold": _key("allocation_longest_hold", _seconds_or_nothing),
        "on-overrun": _key("allocation_on_overrun", _one_of("report", "detach")),
        "placement": _key("allocation_placement", _one_of("pack", "spread")),
    },
    "sharing": {
        "enforce": _key("sharing_enforce", _one_of("mps", "none")),
        "on-overuse": _key("sharing_on_overuse", _one_of("report", "detach")),
        "reserve": _key("sharing_reserve", _size),
    },
    "cdi": {"spec-dirs": _key("cdi_spec_dirs", _paths)},
    "state": {"dir": _key("state_dir", _path)},
    "log": {
        "level": _key("log_level", _one_of("debug", "info", "warning", "error")),
        "file": _key("log_file", _path_or_nothing),
        "journal": _key("log_journal", _boolean),
    },
    "watch": {
        "interval": _key("watch_interval", _seconds),
        "kernel-log": _key("watch_kernel_log", _path_or_nothing),
    },
}
_NVIDIA_SECTIONS: Final = (
    "features",
    "nvidia-container-cli",
    "nvidia-container-runtime",
    "nvidia-container-runtime-hook",
    "nvidia-ctk",
)
