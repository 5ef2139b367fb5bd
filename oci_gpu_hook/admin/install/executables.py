"""Installs what engines start: the static front, if it was built, and the stubs that start Python.

These start the hook by an absolute interpreter path with `-I -S` on byte-compiled code, in any environment, working
directory or site configuration, which pip's console script does not. No container's start imports this.
"""

from __future__ import annotations

import os
import shlex
import sys

import oci_gpu_hook
from oci_gpu_hook.admin.install import hotpath_build, place, without_package
from oci_gpu_hook.admin.install.bytecode import byte_code, compile_package
from oci_gpu_hook.admin.install.front_file import write_front
from oci_gpu_hook.admin.install.programs import INTERPRETER_OPTIONS, find_real_runtime, usable_interpreter
from oci_gpu_hook.admin.install.trusted_files import check_owners, make_directory, replace
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.resident import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_SLURM: Final = "oci-gpu-slurm"
PACKAGE: Final = os.path.dirname(os.path.abspath(oci_gpu_hook.__file__))

# BINPRM_BUF_SIZE of kernels before 5.1 (include/uapi/linux/binfmts.h), which silently cut longer #! lines.
_LONGEST_SHEBANG: Final = 127
_STUB: Final = """\
# Written by `oci-gpu hook-path`: starts oci_gpu_hook.{module} from one directory, with nothing else on the path.
import gc, marshal, posix, sys
gc.disable()
sys.path += {directories}
try:  # the modules of a start out of one file; oci_gpu_hook/base/cpython/hotpath.py
    file = posix.open({modules}, posix.O_CLOEXEC)
    size = int.from_bytes(posix.read(file, 8), "little")
    head = marshal.loads(posix.read(file, size))
    exec(head[0], scope := {{"__name__": "oci_gpu_hook.base.cpython.hotpath"}})
    scope["use"](file, 8 + size, head, "oci_gpu_hook.{module}")
except Exception:
    pass  # without it all is imported as usual, which takes longer
try:
    from oci_gpu_hook.{module} import main
except ModuleNotFoundError as error:
    if not str(error.name).startswith("oci_gpu_hook"):
        raise
{without_package}
sys.exit(main({arguments}))
"""
_RESIDENT: Final = "oci-gpu-resident"
_RESIDENT_STUB: Final = """\
# Written by `oci-gpu hook-path`: starts oci_gpu_hook.entrypoints.resident, with the modules of a hook.
import gc, marshal, posix, sys
gc.disable()
sys.path += {directories}
try:
    file = posix.open({modules}, posix.O_CLOEXEC)
    size = int.from_bytes(posix.read(file, 8), "little")
    head = marshal.loads(posix.read(file, size))
    exec(head[0], scope := {{"__name__": "oci_gpu_hook.base.cpython.hotpath"}})
    scope["use"](file, 8 + size, head, "oci_gpu_hook.entrypoints.hook")
except Exception:
    pass
from oci_gpu_hook.entrypoints.resident.manager import main
main(sys.argv, {stub})
"""
_RUNTIME_IN_SH: Final = """\
#!/bin/sh
# Written by `oci-gpu hook-path`: create, run and update go to Python, every other call to the real runtime at once.
for argument; do
    case $argument in
    create | run | update) exec {python} {stub} "$@" ;;
    esac
done
exec {program} "$@"
"""


class Executables(Record):
    """The installed files as absolute paths; `runtime` and `runtime_stub` are "" if no real runtime was found."""

    hook: str
    hook_stub: str
    runtime: str
    runtime_stub: str
    warnings: tuple[str, ...]


def write(directory: str = "", real_runtime: str = "", interpreter: str = "") -> Executables:
    """Install `oci-gpu-hook` and `oci-gpu-runtime` in a directory, each atomically and only if it differs.

    `real_runtime` is the runtime behind oci-gpu-runtime (default: runc or else crun on PATH); `interpreter` a Python of
    this one's version (default: the distribution's, or else this one without its virtual environment). Raises HookError
    if others could write what root would run, or if nothing that starts can be installed.
    """
    umask = os.umask(0o022)  # rootless engines must be able to run and read the files, also if root's umask is stricter
    try:
        return _write(os.path.abspath(directory or place.default_directory()), real_runtime, interpreter)
    finally:
        os.umask(umask)
        hotpath_build.forget()


def _write(directory: str, real_runtime: str, interpreter: str) -> Executables:
    interpreter = usable_interpreter(interpreter)
    real_runtime = find_real_runtime(real_runtime)
    make_directory(directory)
    warnings = [*_check_modules(), *check_owners(interpreter), *check_owners(directory)]
    warnings += compile_package(PACKAGE, is_checkout=is_checkout())

    _write_commands(directory, interpreter)
    hook = os.path.join(directory, "oci-gpu-hook")
    hook_stub = _write_stub(hook + ".py", "entrypoints.hook", "sys.argv", interpreter)
    if write_front(hook, "hook", interpreter, hook_stub + "c", resident=SOCKET):
        _write_resident(directory, hook_stub)
    else:
        _write_stub(hook, "entrypoints.hook", "sys.argv", interpreter, runs_alone=True)
    runtime = runtime_stub = ""
    if real_runtime:
        runtime = os.path.join(directory, "oci-gpu-runtime")
        arguments = f"sys.argv, {real_runtime!a}"
        stub = runtime + ".py"
        runtime_stub = _write_stub(stub, "entrypoints.runtime", arguments, interpreter, real_runtime=real_runtime)
        if not write_front(runtime, "runtime", interpreter, runtime_stub + "c", real_runtime, SOCKET):
            python = f"{shlex.quote(interpreter)} {INTERPRETER_OPTIONS}"
            text = _RUNTIME_IN_SH.format(
                python=python, stub=shlex.quote(runtime_stub), program=shlex.quote(real_runtime)
            )
            replace(runtime, os.fsencode(text), 0o755)
        if os.path.exists(slurm := os.path.join(directory, _SLURM)):
            _write_slurm(slurm, real_runtime, interpreter)
    for path in filter(None, (hook, runtime)):
        if not os.access(path, os.X_OK):
            why = "cannot be executed; the file system may be mounted noexec"
            raise HookError(quoted(path), why, "choose another directory (--directory)", "OGH1802")
    return Executables(
        hook=hook, hook_stub=hook_stub, runtime=runtime, runtime_stub=runtime_stub, warnings=tuple(warnings)
    )


def write_mesos_front(path: str, real_helper: str, interpreter: str = "", config: str = DEFAULT_PATH) -> str:
    """Install the front of `mesos-containerizer`, the program `real_helper`, at `path`; return the path of its stub.

    The stub calls `main(arguments, real_helper, path, config)` of entrypoints.mesos.shim with the number of a
    descriptor, then the arguments of the call as they were, its name first. The descriptor contains the numbers of
    ignored signals, then the entries of the environment, each ended by NUL. Raises HookError if the front was not
    built, because a Mesos agent cannot start a script from its sealed memory file.
    """
    interpreter = usable_interpreter(interpreter)
    _check_modules()
    compile_package(PACKAGE, is_checkout=is_checkout())
    stub = _write_stub(
        path + ".py", "entrypoints.mesos.shim", f"sys.argv[1:], {real_helper!a}, {path!a}, {config!a}", interpreter
    )
    if not write_front(path, "mesos", interpreter, stub + "c", real_helper):
        why = "the static front was not built, and Mesos agents start no script"
        raise HookError(quoted(path), why, "install a C compiler, then reinstall oci-gpu-hook", "OGH1809")
    return stub


def write_slurm(directory: str = "", real_runtime: str = "", interpreter: str = "") -> str:
    """Install `oci-gpu-slurm`, which slurmstepd calls, before `real_runtime`; returns its path. Raises HookError.

    Once it is there, `write` keeps it up to date with the others.
    """
    real_runtime = find_real_runtime(real_runtime)
    if not real_runtime:
        raise HookError(_SLURM, "found neither runc nor crun on PATH", "install runc (apt install runc)", "OGH1803")
    path = os.path.join(os.path.abspath(directory or place.default_directory()), _SLURM)
    return _write_slurm(path, real_runtime, usable_interpreter(interpreter))


def _write_slurm(path: str, real_runtime: str, interpreter: str) -> str:
    return _write_stub(path, "entrypoints.slurm.door", f"sys.argv, {real_runtime!a}", interpreter, runs_alone=True)


def _write_resident(directory: str, hook_stub: str) -> None:
    """Write what oci-gpu-hook.service starts, by the interpreter that the front starts."""
    path = os.path.join(directory, f"{_RESIDENT}.py")
    modules = f"{hook_stub.removesuffix('.py')}.modules"
    text = _RESIDENT_STUB.format(directories=ascii(_directories()), modules=ascii(modules), stub=ascii(hook_stub + "c"))
    replace(path, text.encode("ascii"), 0o644)


def _write_commands(directory: str, interpreter: str) -> None:
    """Write the byte code that admin/cli/door.py reads."""
    path = os.path.join(directory, f"oci-gpu.{sys.implementation.cache_tag}.modules")
    hotpath_build.write(
        path, interpreter, PACKAGE, "oci_gpu_hook.admin.cli.main", hotpath_build.COMMANDS, is_checkout=is_checkout()
    )


def is_checkout() -> bool:
    """Tell whether this package is a checkout, beside its pyproject.toml."""
    return os.path.exists(os.path.join(os.path.dirname(PACKAGE), "pyproject.toml"))


def _directories() -> list[str]:
    """Return the directories of the hook's modules: the package's and, if that differs, nvidia-ml-py's."""
    from importlib.util import find_spec

    home = os.path.dirname(PACKAGE)
    found = find_spec("pynvml")
    beside = os.path.dirname(found.origin) if found and found.origin else home
    return [home] if beside == home else [home, beside]


def _check_modules() -> list[str]:
    """Do what `check_owners` does for this package, and for nvidia-ml-py if that is elsewhere: root imports both."""
    warnings = check_owners(PACKAGE, tree=True)
    for directory in _directories()[1:]:
        warnings += check_owners(os.path.join(directory, "pynvml.py"))
    return warnings


def _write_stub(  # noqa: PLR0913  what the stubs differ in
    path: str, module: str, arguments: str, interpreter: str, *, real_runtime: str = "", runs_alone: bool = False
) -> str:
    """Write the script that starts an entry point, and return its path; its byte code has a `c` appended.

    real_runtime: of oci-gpu-runtime, which serves containers without GPUs when this package was removed.

    Raises HookError if only a #! line could start it, and the interpreter's path does not fit into one.
    """
    shebang = os.fsencode(f"#!{interpreter} {INTERPRETER_OPTIONS}\n")
    fits = len(shebang) <= _LONGEST_SHEBANG and not any(c.isspace() for c in interpreter)
    if runs_alone and not fits:
        why = "is too long for a #! line, or has white space, and the static front was not built"
        raise HookError(
            quoted(interpreter), why, "install a C compiler and reinstall, or use the distribution's python3", "OGH1809"
        )
    modules = f"{path.removesuffix('.py')}.modules"
    hotpath_build.write(modules, interpreter, PACKAGE, f"oci_gpu_hook.{module}", is_checkout=is_checkout())
    text = _STUB.format(
        module=module,
        directories=ascii(_directories()),
        modules=ascii(modules),
        arguments=arguments,
        without_package=without_package.text(module, PACKAGE, real_runtime),
    )
    replace(path, (shebang if fits else b"") + text.encode("ascii"), 0o755 if fits else 0o644)
    if not runs_alone:
        replace(path + "c", byte_code(text, path), 0o644)
    return path
