"""Byte-compiles the package for the hook, which writes nothing itself and would otherwise compile at every start.

Installed code gets `unchecked-hash` files (PEP 552), which stay valid when an image build or OSTree gives every file
the same time. A checkout gets the usual time-stamped files, so that edits take effect. No container's start imports
this.
"""

from __future__ import annotations

import marshal
import os
import sys

from oci_gpu_hook.base.errors import quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_UNCHECKED_HASH = 1  # flags of PEP 552: bit 0 a hash instead of a time, bit 1 checked
_TIMESTAMP = 0


def compile_package(package: str, *, is_checkout: bool) -> list[str]:
    """Bring the byte code of every module up to date, even if PYTHONDONTWRITEBYTECODE is set.

    Returns warnings: without byte code the hook still works, slower.
    """
    from py_compile import PycInvalidationMode, PyCompileError
    from py_compile import compile as compile_file

    mode = PycInvalidationMode.TIMESTAMP if is_checkout else PycInvalidationMode.UNCHECKED_HASH
    for source in _modules(package):
        target = _target(source)
        try:
            if not _is_current(source, target, is_checkout=is_checkout):
                compile_file(source, target, doraise=True, invalidation_mode=mode)
        except (OSError, PyCompileError) as error:
            why = reason(error) if isinstance(error, OSError) else "does not compile"
            return [f"{quoted(source)}: no byte code ({why}); the hook starts slowly"]
    return []


def byte_code(source: str, path: str) -> bytes:
    """Return the contents of a `.pyc` file of a script (PEP 552), which an interpreter can run directly."""
    from importlib.util import MAGIC_NUMBER, source_hash

    code = compile(source, path, "exec", dont_inherit=True)
    return MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + source_hash(source.encode()) + marshal.dumps(code)


def stale(package: str, *, is_checkout: bool) -> list[str]:
    """Return the modules whose byte code is missing or does not match their source. Raises OSError."""
    return [source for source in _modules(package) if not _is_current(source, _target(source), is_checkout=is_checkout)]


def _target(source: str) -> str:
    # Not importlib's cache_from_source, which uses PYTHONPYCACHEPREFIX; the isolated hook does not.
    directory, name = os.path.split(source)
    return os.path.join(directory, "__pycache__", f"{name[:-3]}.{sys.implementation.cache_tag}.pyc")


def _modules(package: str) -> Iterator[str]:
    for directory, _, names in os.walk(package):
        yield from (os.path.join(directory, name) for name in sorted(names) if name.endswith(".py"))


def _is_current(source: str, target: str, *, is_checkout: bool) -> bool:
    """Compare the 16-byte header of the byte code (PEP 552) with the source."""
    from importlib.util import MAGIC_NUMBER, source_hash

    try:
        with open(target, "rb") as file:
            header = file.read(16)
    except FileNotFoundError:
        return False
    if is_checkout:
        about = os.stat(source)
        word = (int(about.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        word += (about.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        flags = _TIMESTAMP
    else:
        with open(source, "rb") as file:
            word = source_hash(file.read())
        flags = _UNCHECKED_HASH
    return header == MAGIC_NUMBER + flags.to_bytes(4, "little") + word
