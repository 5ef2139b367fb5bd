"""The modules of a container's start out of one file, written by `oci-gpu hook-path`.

Finding sixty files of byte code and reading each costs a start as much as the interpreter itself. The file has groups
of modules in the order in which they import each other; importing the head of a group runs it whole. It counts only
while the sources it was made of have the size and time they had; without it everything is imported as usual.
It lies where only root writes, beside the executables, and is believed like them. It begins with the size of its head
(8 bytes, little-endian) and the head: this module, the lean `os`, the index, where extension modules are.
"""

from __future__ import annotations

import sys
from marshal import loads
from posix import pread, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, TypeAlias

    # head of a group → where it begins in the file behind the file's head, its size in bytes, and the heads of groups
    # whose modules it needs and has not
    Index: TypeAlias = dict[str, tuple[int, int, tuple[str, ...]]]
    Head: TypeAlias = tuple[CodeType, CodeType, Index, dict[str, str]]
    # ((source, size, mtime_ns), …), ((name, source, is package, code), …)
    Group: TypeAlias = tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, str, bool, CodeType | None], ...]]

_specification: Any = type(sys.__spec__)  # importlib.machinery.ModuleSpec, which would have to be imported


def use(file: int, base: int, head: Head, name: str) -> None:
    """Import the group of `name`, and leave the other groups to be found when they are imported.

    file: a descriptor, which stays open: another file may take its place. base: where its groups begin.
    """
    _, lean_os, index, extensions = head
    scope: dict[str, Any] = {"__name__": "oci_gpu_hook.base.cpython.lean_os"}
    exec(lean_os, scope)  # noqa: S102
    scope["install"]()
    finder = Finder(file, base, index, extensions)
    group = finder.read(name)
    if _are_unchanged(group[0]):
        run(group)
        sys.meta_path.insert(0, finder)


def run(group: Group) -> None:
    """Make the modules of a group that are not imported yet."""
    modules = sys.modules
    missing = [entry for entry in group[1] if entry[0] not in modules]
    for name, source, is_package, _ in missing:
        module = type(sys)(name)
        parent, _, last = name.rpartition(".")
        module.__file__ = source
        module.__package__ = name if is_package else parent
        module.__dict__["__linked__"] = linked
        if is_package:
            module.__path__ = [source.rpartition("/")[0]]
        modules[name] = module
        if parent:
            setattr(modules.get(parent) or __import__(parent, fromlist=[last]), last, module)
    done = 0
    try:
        for name, _, _, code in missing:
            if code:
                exec(code, modules[name].__dict__)  # noqa: S102  the package's own byte code
            done += 1
    finally:
        for name, *_ in missing[done:]:
            del modules[name]


def linked(name: str) -> ModuleType:
    """Return a module of the package, mostly one that is there; byte code of this file has it for import statements."""
    if name not in sys.modules:
        __import__(name)
    return sys.modules[name]


class Finder:
    """Finds the heads of groups (importlib.abc.MetaPathFinder and Loader, as far as they are asked).

    It also knows where the interpreter's own extension modules are, which else takes reading their directory.
    file: the descriptor that it reads from.
    """

    def __init__(self, file: int, base: int, index: Index, extensions: dict[str, str]) -> None:
        self.file = file
        self._base = base
        self._index = index
        self._extensions = extensions
        self._group: Group = ((), ())

    def read(self, name: str) -> Group:
        """Return a group, which is then no longer to be found here."""
        start, size, _ = self._index.pop(name)
        group: Group = loads(pread(self.file, size, self._base + start))  # noqa: S302
        return group

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """Return a specification for the head of a group whose sources are as they were."""
        if name in self._extensions:
            return _extension(name, self._extensions[name])
        if name not in self._index:
            return None
        for head in self._index[name][2]:
            if head in self._index:
                needed = self.read(head)
                if _are_unchanged(needed[0]):
                    run(needed)
        self._group = self.read(name)
        found: ModuleSpec | None = _specification(name, self) if _are_unchanged(self._group[0]) else None
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the whole group that was found."""
        run(self._group)
        return sys.modules[spec.name]

    def exec_module(self, _module: ModuleType) -> None:
        """Do nothing: `create_module` has run it."""


def _extension(name: str, path: str) -> ModuleSpec | None:
    try:
        stat(path)
    except OSError:
        return None  # of an interpreter that was exchanged: to be searched for
    loader = sys.modules["_frozen_importlib_external"].ExtensionFileLoader(name, path)
    found: ModuleSpec = _specification(name, loader, origin=path)
    return found


def _are_unchanged(sources: tuple[tuple[str, int, int], ...]) -> bool:
    try:
        for source, size, mtime in sources:
            found = stat(source)
            if found.st_size != size or found.st_mtime_ns != mtime:
                return False
    except OSError:
        return False
    return True
