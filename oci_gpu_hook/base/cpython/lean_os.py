"""A smaller module `os`, without what no start uses: abstract base classes, `environ`, `walk`, `popen`.

`import os` costs a start a seventh of what the bare interpreter costs. Nearly everything that a start needs of it is in
`posix`, which is built into the interpreter. When any other attribute is read, this module becomes the whole `os`.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def install() -> None:
    """Have `import os` find this module, unless the whole one is imported already."""
    if "os" in sys.modules:
        return
    lean = type(sys)("os")
    lean.__dict__.update({name: value for name, value in posix.__dict__.items() if name[:1] != "_"})
    del lean.__dict__["environ"]  # `posix.environ` holds bytes
    lean.__dict__.update(_exit=posix._exit, fsencode=_fsencode, fsdecode=_fsdecode)  # noqa: SLF001
    lean.__dict__["__getattr__"] = lambda name: _whole(lean, name)
    sys.modules["os"] = lean
    import posixpath  # it imports os, but reads nothing of it yet

    lean.__dict__["path"] = sys.modules["os.path"] = posixpath


def _whole(lean: ModuleType, name: str) -> Any:
    """Run the code of the whole module in the lean one, as importlib.reload does, and return its attribute."""
    if name[:2] == "__":  # importlib asks every module for __path__
        raise AttributeError(name)
    importlib = sys.modules["_frozen_importlib"]
    del lean.__dict__["__getattr__"]
    importlib._exec(importlib._find_spec("os", None), lean)  # noqa: SLF001
    return getattr(lean, name)


def _fsencode(path: str | bytes) -> bytes:
    name = posix.fspath(path)
    return name if isinstance(name, bytes) else name.encode(sys.getfilesystemencoding(), "surrogateescape")


def _fsdecode(path: str | bytes) -> str:
    name = posix.fspath(path)
    return name if isinstance(name, str) else name.decode(sys.getfilesystemencoding(), "surrogateescape")
