"""Builds the file that base/cpython/hotpath.py reads. No container's start imports this.

The byte code is made from the sources without what only readers and type checkers use: docstrings, annotations of
functions and variables, and blocks under TYPE_CHECKING; functions that a usual start does not call are put behind all
modules (deferred.py). Modules find each other in sys.modules: an import statement
takes a microsecond even for an imported module, and a start has two hundred. Line numbers are kept.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import os
from functools import lru_cache

from oci_gpu_hook.admin.install import deferred, import_order
from oci_gpu_hook.admin.install.trusted_files import replace
from oci_gpu_hook.base import cpython

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import CodeType
    from typing import Final

# Modules that are imported together after the entry point: a container's end; annotations; its request, and the
# vendor's words; the grant, and what the runtime does with it; the kinds of edits, and its start; the vendor's room;
# what the hook of a CDI specification adds; devices of other vendors; a choice by count, for one GPU and for more; each
# version of the device cgroup; systemd's units; cleanup after other containers. Also modules that a start may need
# after a wait, during which the package may have been upgraded; the file that the process holds open is complete. No
# group that a start reads has 128 KiB: malloc would have the kernel map those. head → the heads whose modules its group
# need not contain. They are imported before it, but for those of _START: code that needs one of these outside a start
# imports the rest one by one.
_REQUEST: Final = ("oci_gpu_hook.request.parse",)
_GRANT: Final = (*_REQUEST, "oci_gpu_hook.allocation.allocate")
_ADMISSION: Final = (*_GRANT, "oci_gpu_hook.lifecycle.admission")
_TRANSACTION: Final = (*_ADMISSION, "oci_gpu_hook.apply.operations.table")
_START: Final = (*_TRANSACTION, "oci_gpu_hook.lifecycle.start")
HEADS: Final = {
    "oci_gpu_hook.allocation.release": (),
    "oci_gpu_hook.lifecycle.teardown": ("oci_gpu_hook.allocation.release",),
    "oci_gpu_hook.oci.image_annotations": (),
    "oci_gpu_hook.request.parse": (),
    "oci_gpu_hook.request.nvidia.words": _REQUEST,
    "oci_gpu_hook.allocation.allocate": _REQUEST,
    "oci_gpu_hook.lifecycle.injected": _GRANT,
    "oci_gpu_hook.lifecycle.admission": _GRANT,
    "oci_gpu_hook.apply.bundle": (),
    "oci_gpu_hook.entrypoints.runtime_standby": _ADMISSION,
    "oci_gpu_hook.lifecycle.granted": _ADMISSION,
    "oci_gpu_hook.apply.operations.table": _ADMISSION,
    "oci_gpu_hook.lifecycle.start": _TRANSACTION,
    "oci_gpu_hook.devices.nvidia.vendor": _ADMISSION,
    "oci_gpu_hook.lifecycle.cdi_container": (),
    "oci_gpu_hook.request.other_kinds": _REQUEST,
    "oci_gpu_hook.devices.cdi.room": _START,
    "oci_gpu_hook.lifecycle.described": _START,
    "oci_gpu_hook.allocation.by_count": _START,
    "oci_gpu_hook.allocation.topology": _START,
    "oci_gpu_hook.apply.device_access.v1": _START,
    "oci_gpu_hook.apply.device_access.v2": _START,
    "oci_gpu_hook.apply.systemd.drop_in": _START,
    "oci_gpu_hook.apply.systemd.private_bus": _START,
    "oci_gpu_hook.apply.cleanup": _START,
    "oci_gpu_hook.allocation.wait": _START,
    "oci_gpu_hook.allocation.turns": _START,
    "oci_gpu_hook.devices.nvidia.refusals": _START,
    "oci_gpu_hook.devices.nvidia.sick": _START,
    "oci_gpu_hook.devices.nvidia.shortfalls": _START,
    "oci_gpu_hook.allocation.messages": _START,
}

# The same for `oci-gpu`: what reads command lines; the commands that are measured; what these import when it is needed.
_USUAL: Final = ("oci_gpu_hook.admin.cli.usual",)
_GENERATE: Final = (*_USUAL, "oci_gpu_hook.admin.cli.cdi", "oci_gpu_hook.admin.cdi.generate")
_DETACH: Final = (*_USUAL, "oci_gpu_hook.admin.cli.detach")
_LIVING: Final = ("oci_gpu_hook.admin.cli.attach", "oci_gpu_hook.admin.cli.detach")
COMMANDS: Final = {
    "oci_gpu_hook.admin.cli.usual": (),
    "oci_gpu_hook.admin.cli.attach": _USUAL,
    "oci_gpu_hook.admin.cli.detach": _USUAL,
    "oci_gpu_hook.admin.cli.cdi": _USUAL,
    "oci_gpu_hook.admin.cdi.generate": (*_USUAL, "oci_gpu_hook.admin.cli.cdi"),
    "oci_gpu_hook.devices.nvidia.shortfalls": _GENERATE,
    "oci_gpu_hook.oci.engine_records": _LIVING,
    "oci_gpu_hook.lifecycle.rootfs_part": _DETACH,
    "oci_gpu_hook.request.nvidia.words": _DETACH,
    "oci_gpu_hook.devices.nvidia.vendor": _LIVING,
    "oci_gpu_hook.allocation.by_count": _LIVING,
    "oci_gpu_hook.apply.device_access.v1": _LIVING,
    "oci_gpu_hook.apply.device_access.v2": _LIVING,
    "oci_gpu_hook.apply.systemd.drop_in": _LIVING,
    "oci_gpu_hook.apply.systemd.private_bus": _LIVING,
}

_COMMANDS_ROOM: Final = ("admin", "cli")


def write(  # noqa: PLR0913
    path: str,
    interpreter: str,
    package: str,
    door: str,
    heads: Mapping[str, Sequence[str]] = HEADS,
    *,
    is_checkout: bool = True,
) -> None:
    """Write the file for the modules that an entry point imports. Raises HookError, OSError, CalledProcessError.

    In a checkout every source is checked at each start. Installed code changes as a whole (see bytecode.py), so that it
    suffices to check its first file.
    """
    index: dict[str, tuple[int, int, tuple[str, ...]]] = {}
    groups = b""
    functions = deferred.Functions(deferred.LIST if heads is HEADS else deferred.COMMANDS_LIST)
    there = {head: before for head, before in heads.items() if os.path.exists(_source(head, package)[0])}
    has_door = os.path.exists(_source(door, package)[0])  # that of commands is not in every package
    orders = import_order.of(interpreter, door, there, package) if has_door else {}
    for head, before in {door: (), **heads}.items():
        names = orders.get(head, [])
        if head not in names:
            continue  # those before it import it by now: a command that does without them has it searched for
        if head == door:
            names += [name for name in _packages(heads, package) if name not in names]
        sources = []
        modules = []
        for name in names:
            source, is_package = _source(name, package)
            if is_checkout or name == "oci_gpu_hook":
                about = os.stat(source)
                sources.append((source, about.st_size, about.st_mtime_ns))
            modules.append((name, source, is_package, compiled(source, package, name, functions)))
        group = marshal.dumps((tuple(sources), tuple(modules)))
        index[head] = (len(groups), len(group), () if before in (_START, _DETACH, _LIVING) else tuple(before))
        groups += group
    here = os.path.dirname(cpython.__file__)
    readers = [compiled(os.path.join(here, name), package) for name in ("hotpath.py", "lean_os.py")]
    following = groups + functions.data
    first = marshal.dumps((*readers, index, import_order.extensions(interpreter), len(following)))
    replace(path, len(first).to_bytes(8, "little") + first + following, 0o644)


def _packages(heads: Iterable[str], package: str) -> list[str]:
    """Return the packages of heads, outer ones first; otherwise each would be searched before its head."""
    found: dict[str, None] = {}
    for head in heads:
        words = head.split(".")
        found |= dict.fromkeys(".".join(words[:count]) for count in range(1, len(words)))
    return [name for name in found if os.path.exists(_source(name, package)[0])]


def compiled(source: str, package: str, name: str = "", functions: deferred.Functions | None = None) -> CodeType | None:
    """Return the lean byte code of a source file; None if the file has only a docstring.

    name: the module's; functions: takes those of its functions that are deferred. Docstrings of commands stay, because
    their help is made of these.
    """
    about = os.stat(source)
    tree, code = _lean(source, package, about.st_size, about.st_mtime_ns)
    if code is None or functions is None:
        return code
    taken = functions.take(tree, name, code)
    if taken:
        code = _code(tree, source, package)
    for body, place, function in taken:  # the next file has them elsewhere
        body[place] = function
    return code


@lru_cache(maxsize=1024)  # the files of an installation have most modules in common
def _lean(source: str, package: str, _size: int, _changed: int) -> tuple[ast.Module, CodeType | None]:
    """Return the syntax tree and the byte code of a source with all functions; no code if it has only a docstring."""
    with open(source, "rb") as file:
        tree = _Lean().visit(ast.parse(file.read(), source))
    tree.body = [linked for statement in tree.body for linked in _linked(statement, package)]
    is_empty = all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in tree.body)
    return tree, None if is_empty else _code(tree, source, package)


def forget() -> None:
    """Let go of what was compiled: marshal writes values that something else refers to in another way."""
    _lean.cache_clear()


def _code(tree: ast.Module, source: str, package: str) -> CodeType:
    code: CodeType = compile(
        tree,
        source,
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
        optimize=1 if os.path.dirname(source) == os.path.join(package, *_COMMANDS_ROOM) else 2,
    )
    return code


def _linked(statement: ast.stmt, package: str) -> list[ast.stmt]:
    """Return the replacement of a statement: `from MODULE import NAME` becomes calls of hotpath.linked."""
    if not isinstance(statement, ast.ImportFrom) or (statement.module or "").split(".")[0] != "oci_gpu_hook":
        return [statement]
    module = str(statement.module)
    text = f"__from__ = __linked__({module!r})\n"  # one call for all names, since a call costs as much as a small class
    for alias in statement.names:
        is_module = os.path.exists(_source(f"{module}.{alias.name}", package)[0])
        value = f"__linked__({f'{module}.{alias.name}'!r})" if is_module else f"__from__.{alias.name}"
        text += f"{alias.asname or alias.name} = {value}\n"
    if "__from__." not in text:
        text = text.partition("\n")[2]
    return [ast.increment_lineno(each, statement.lineno - each.lineno) for each in ast.parse(text).body]


def _source(name: str, package: str) -> tuple[str, bool]:
    base = os.path.join(os.path.dirname(package), *name.split("."))
    init = os.path.join(base, "__init__.py")
    return (init, True) if os.path.exists(init) else (f"{base}.py", False)


class _Lean(ast.NodeTransformer):
    """Removes what has no effect at run time. Annotations of classes stay, since they are the fields of Records."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            argument.annotation = None
        for rest in filter(None, (arguments.vararg, arguments.kwarg)):
            rest.annotation = None
        return self._with_body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        kept = [statement if isinstance(statement, ast.AnnAssign) else self.visit(statement) for statement in node.body]
        kept = [statement for statement in kept if statement is not None]
        node.body = kept or [ast.copy_location(ast.Pass(), node)]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=self.visit(node.value)), node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(statement) for statement in node.orelse] or ast.copy_location(ast.Pass(), node)
        return self._with_body(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def _with_body(self, node: ast.FunctionDef | ast.If) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.copy_location(ast.Pass(), node)]
        return node
