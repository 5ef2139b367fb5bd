"""Imports the modules of a container's start from one file, which `oci-gpu hook-path` writes.

Finding and reading sixty files of byte code costs a start as much as the interpreter itself. The file holds groups of
modules in the order in which they import each other; importing the first module of a group, its head, runs the whole
group. The file is used only while the sources that it was made from still have the same size and time; without it
everything is imported as usual. It is kept beside the executables, where only root can write, and is trusted like them.
It begins with the size of its header (8 bytes, little-endian) and the header: this module, the lean `os`, the index of
groups, the paths of extension modules, and the size of all that follows. After the groups it has the functions that a
usual start does not call (`Deferred`).
"""

from __future__ import annotations

import sys
from marshal import loads
from posix import close, fstat, pread, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, ClassVar, TypeAlias

    # head of a group → where the group begins behind the file's header, its size in bytes, and the heads of groups
    # whose modules it needs and does not contain
    Index: TypeAlias = dict[str, tuple[int, int, tuple[str, ...]]]
    Head: TypeAlias = tuple[CodeType, CodeType, Index, dict[str, str], int]
    # ((source, size, mtime_ns), …), ((name, source, is package, code), …)
    Group: TypeAlias = tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, str, bool, CodeType | None], ...]]
    # module, code, defaults, defaults of keyword-only parameters
    Function: TypeAlias = tuple[str, CodeType, tuple[Any, ...] | None, dict[str, Any] | None]

_specification: Any = type(sys.__spec__)  # importlib.machinery.ModuleSpec, which would have to be imported
_function: Any = type(lambda: None)  # types.FunctionType, likewise


def use(file: int, base: int, head: Head, name: str, package: str = "") -> None:
    """Import the group of `name`, and have the other groups found when they are imported.

    file: a descriptor, which stays open because another file may take its place. base: where the groups begin.
    package: the directory of the only package whose modules are wanted, if there may be others on this host. Where a
    standard descriptor was closed, the file has taken its number: it is closed again, and not used, since whoever reads
    stdin would read byte code, and whoever writes a message would write into the file's place. Raises EOFError if the
    file is not whole: what is missing may be what takes back a failed start.
    """
    if file <= 2:
        close(file)
        return
    _, lean_os, index, extensions, following = head
    if fstat(file).st_size != base + following:
        raise EOFError
    finder = Finder(file, base, index, extensions)
    group = finder.read(name)
    if package and group[0][0][0] != f"{package}/__init__.py":
        return
    scope: dict[str, Any] = {"__name__": "oci_gpu_hook.base.cpython.lean_os"}
    exec(lean_os, scope)  # noqa: S102
    scope["install"]()
    if _are_unchanged(group[0]):
        run(group)
        sys.meta_path.insert(0, finder)


def run(group: Group) -> None:
    """Import those modules of a group that are not imported yet."""
    modules = sys.modules
    missing = [entry for entry in group[1] if entry[0] not in modules]
    for name, source, is_package, _ in missing:
        module = type(sys)(name)
        parent, _, last = name.rpartition(".")
        module.__file__ = source
        module.__package__ = name if is_package else parent
        module.__dict__.update(__linked__=linked, __deferred__=Deferred)
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
    """Return a module of the package, usually one already imported; byte code in the file calls this to import."""
    if name not in sys.modules:
        __import__(name)
    return sys.modules[name]


class Deferred(int):
    """A function whose byte code stays in the file until it is called; stands in for it, as a method too.

    The value: where the code is behind the groups, and below that, in 20 bits, its size. Both are in bytes. Being a
    number, it takes a start a tenth of the time that the function would.
    """

    __slots__ = ()
    finder: Finder
    read: ClassVar[dict[int, Any]] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function."""
        return self.function()(*arguments, **named)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return the function as a method."""
        return self.function().__get__(instance, owner)

    def function(self) -> Any:
        """Return the function itself, which from now on takes this one's place in its module."""
        found = self.read.get(self)
        if found is None:
            name, code, defaults, named = self.finder.function(self >> 20, self & 0xFFFFF)
            scope = sys.modules[name].__dict__
            found = self.read[self] = _function(code, scope, code.co_name, defaults)
            found.__kwdefaults__ = named
            if scope.get(code.co_name) is self:
                scope[code.co_name] = found
        return found


class Finder:
    """Finds the heads of groups; has those methods of importlib.abc's MetaPathFinder and Loader that are called.

    It also knows where the interpreter's own extension modules are, which saves reading their directory.
    file: the descriptor that it reads from.
    """

    def __init__(self, file: int, base: int, index: Index, extensions: dict[str, str]) -> None:
        self.file = file
        self._base = base
        self._index = index
        self._extensions = extensions
        self._group: Group = ((), ())
        self._functions = base + max(start + size for start, size, _ in index.values())
        Deferred.finder = self

    def read(self, name: str) -> Group:
        """Return a group, and forget it."""
        start, size, _ = self._index.pop(name)
        group: Group = loads(pread(self.file, size, self._base + start))  # noqa: S302
        return group

    def function(self, start: int, size: int) -> Function:
        """Return a function of those behind the groups."""
        found: Function = loads(pread(self.file, size, self._functions + start))  # noqa: S302
        return found

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """Return a module specification for the head of a group whose sources have not changed."""
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
        """Import the whole group whose head was found."""
        run(self._group)
        return sys.modules[spec.name]

    def exec_module(self, _module: ModuleType) -> None:
        """Do nothing: `create_module` has run it."""


def _extension(name: str, path: str) -> ModuleSpec | None:
    try:
        stat(path)
    except OSError:
        return None  # the interpreter was replaced: let the usual finders search
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
