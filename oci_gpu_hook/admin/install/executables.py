"""Lays the executables that engines start: the static front where it was built, and the stubs that start Python.

What is laid starts the hook by an absolute interpreter with `-I -S` on byte-compiled code, whatever environment,
working directory or site configuration it is started in; pip's console script does not. Not on the way of a container.
"""

from __future__ import annotations

import os
import shlex
import sys

import oci_gpu_hook
from oci_gpu_hook.admin.install import hotpath_build
from oci_gpu_hook.admin.install.bytecode import byte_code, compile_package
from oci_gpu_hook.admin.install.trusted_files import check_owners, make_directory, replace
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SYSTEM_DIRECTORY: Final = "/usr/libexec/oci-gpu-hook"
PACKAGE: Final = os.path.dirname(os.path.abspath(oci_gpu_hook.__file__))
TEMPLATE: Final = os.path.join(PACKAGE, "admin", "install", "front.elf")  # setup.py builds it

# Isolated, no site, nothing written, UTF-8 without a locale; front/start.c says the same.
INTERPRETER_OPTIONS: Final = "-ISBXutf8"
# BINPRM_BUF_SIZE of kernels before 5.1 (include/uapi/linux/binfmts.h); longer #! lines are cut without a word.
_LONGEST_SHEBANG: Final = 127
# struct block of front/front.h: magic, role, then three paths of this many bytes, NUL included.
_MAGIC: Final = b"oci-gpu-front-1\0"
_ROLE_SIZE: Final = 16
_PATH_SIZE: Final = 1024
_REAL_RUNTIMES: Final = ("runc", "crun")

_STUB: Final = """\
# Laid by `oci-gpu hook-path`: starts oci_gpu_hook.{door} from one directory, with nothing else of the host on the path.
import gc, marshal, posix, sys
gc.disable()
sys.path += {directories}
try:  # the modules of a start out of one file; oci_gpu_hook/base/cpython/hotpath.py
    file = posix.open({modules}, posix.O_CLOEXEC)
    size = int.from_bytes(posix.read(file, 8), "little")
    head = marshal.loads(posix.read(file, size))
    exec(head[0], scope := {{"__name__": "oci_gpu_hook.base.cpython.hotpath"}})
    scope["use"](file, 8 + size, head, "oci_gpu_hook.{door}")
except Exception:
    pass  # without it all is imported as usual, which takes longer
from oci_gpu_hook.{door} import main
sys.exit(main({arguments}))
"""
_RUNTIME_IN_SH: Final = """\
#!/bin/sh
# Laid by `oci-gpu hook-path`: create and run go to Python, every other call to the real runtime at once.
for argument; do
    case $argument in
    create | run) exec {python} {stub} "$@" ;;
    esac
done
exec {program} "$@"
"""


class Executables(Record):
    """What was laid, as absolute paths; `runtime` and `runtime_stub` are "" where no real runtime was found."""

    hook: str
    hook_stub: str
    runtime: str
    runtime_stub: str
    warnings: tuple[str, ...]


class Front(Record):
    """What a laid front says of itself; is_current: whether its code is that of the front that would be laid now."""

    interpreter: str
    stub: str
    program: str
    is_current: bool


def default_directory() -> str:
    """Return where the executables belong: with the virtual environment, system or user that has the package."""
    if sys.prefix != sys.base_prefix:
        return os.path.join(sys.prefix, "libexec", "oci-gpu-hook")
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    import site

    return os.path.join(site.getuserbase(), "libexec", "oci-gpu-hook")


def write(directory: str = "", real_runtime: str = "", interpreter: str = "") -> Executables:
    """Lay `oci-gpu-hook` and `oci-gpu-runtime` in a directory, each replaced in one step and only where it differs.

    `real_runtime` is what oci-gpu-runtime stands before (default: runc, else crun, of PATH); `interpreter` a Python of
    this one's version (default: the distribution's, else this one without its virtual environment).
    Raises HookError where others could write what root would run, or where nothing that starts can be laid.
    """
    umask = os.umask(0o022)  # rootless engines run and read what a root with a stricter one lays
    try:
        return _write(os.path.abspath(directory or default_directory()), real_runtime, interpreter)
    finally:
        os.umask(umask)


def _write(directory: str, real_runtime: str, interpreter: str) -> Executables:
    interpreter = usable_interpreter(interpreter)
    real_runtime = find_real_runtime(real_runtime)
    make_directory(directory)
    warnings = [*check_owners(PACKAGE, tree=True), *check_owners(interpreter), *check_owners(directory)]
    warnings += compile_package(PACKAGE, is_checkout=is_checkout())

    hook = os.path.join(directory, "oci-gpu-hook")
    hook_stub = _write_stub(hook + ".py", "entrypoints.hook", "sys.argv", interpreter)
    if not write_front(hook, "hook", interpreter, hook_stub + "c"):
        _write_stub(hook, "entrypoints.hook", "sys.argv", interpreter, runs_alone=True)
    runtime = runtime_stub = ""
    if real_runtime:
        runtime = os.path.join(directory, "oci-gpu-runtime")
        arguments = f"sys.argv, {real_runtime!a}"
        runtime_stub = _write_stub(runtime + ".py", "entrypoints.runtime", arguments, interpreter)
        if not write_front(runtime, "runtime", interpreter, runtime_stub + "c", real_runtime):
            python = f"{shlex.quote(interpreter)} {INTERPRETER_OPTIONS}"
            text = _RUNTIME_IN_SH.format(
                python=python, stub=shlex.quote(runtime_stub), program=shlex.quote(real_runtime)
            )
            replace(runtime, os.fsencode(text), 0o755)
    for path in filter(None, (hook, runtime)):
        if not os.access(path, os.X_OK):
            why = "cannot be executed; the file system may be mounted noexec"
            raise HookError(quoted(path), why, "choose another directory (--directory)")
    return Executables(
        hook=hook, hook_stub=hook_stub, runtime=runtime, runtime_stub=runtime_stub, warnings=tuple(warnings)
    )


def write_mesos_front(path: str, real_helper: str, interpreter: str = "", config: str = DEFAULT_PATH) -> str:
    """Lay the front of `mesos-containerizer` at `path`, before `real_helper`; returns the path of its stub.

    The stub calls `main(arguments, real_helper, path, config)` of entrypoints.mesos.shim with the number of a
    descriptor, then the arguments of the call as they were, its name first. The descriptor holds the numbers of ignored
    signals, then the entries of the environment, each ended by NUL. Raises HookError where the front was not built: a
    script cannot be started from the sealed memory file of a Mesos agent.
    """
    interpreter = usable_interpreter(interpreter)
    check_owners(PACKAGE, tree=True)
    compile_package(PACKAGE, is_checkout=is_checkout())
    stub = _write_stub(
        path + ".py", "entrypoints.mesos.shim", f"sys.argv[1:], {real_helper!a}, {path!a}, {config!a}", interpreter
    )
    if not write_front(path, "mesos", interpreter, stub + "c", real_helper):
        why = "the static front was not built, and Mesos agents start no script"
        raise HookError(quoted(path), why, "install a C compiler, then reinstall oci-gpu-hook")
    return stub


def write_front(path: str, role: str, interpreter: str, stub: str, program: str = "") -> bool:
    """Lay a copy of the front that knows its role and paths. False where there is no front, or none for such paths."""
    try:
        with open(TEMPLATE, "rb") as file:
            template = file.read()
    except FileNotFoundError:
        return False
    paths = [os.fsencode(each) for each in (interpreter, stub, program)]
    if any(len(each) >= _PATH_SIZE for each in paths):
        return False
    block = _MAGIC + role.encode().ljust(_ROLE_SIZE, b"\0") + b"".join(each.ljust(_PATH_SIZE, b"\0") for each in paths)
    before, magic, after = template.partition(_MAGIC)
    if not magic or _MAGIC in after or after[:1].strip(b"\0"):
        raise HookError(quoted(TEMPLATE), "is not this version's front", "reinstall oci-gpu-hook")
    replace(path, before + block + after[len(block) - len(_MAGIC) :], 0o755)
    return True


def read_front(path: str) -> Front | None:
    """Return what a front was laid with, None for what is no front. Raises OSError."""
    with open(path, "rb") as file:
        before, magic, rest = file.read().partition(_MAGIC)
    if not magic:
        return None
    start = _ROLE_SIZE
    paths = [rest[at : at + _PATH_SIZE] for at in range(start, start + 3 * _PATH_SIZE, _PATH_SIZE)]
    interpreter, stub, program = (os.fsdecode(each.rstrip(b"\0")) for each in paths)
    current: tuple[bytes, ...] = (b"", b"", b"")  # of a package that was built without a compiler
    if os.path.exists(TEMPLATE):
        with open(TEMPLATE, "rb") as file:
            current = file.read().partition(_MAGIC)
    after = start + 3 * _PATH_SIZE
    is_current = (before, rest[after:]) == (current[0], current[2][after:])
    return Front(interpreter=interpreter, stub=stub, program=program, is_current=is_current)


def usable_interpreter(chosen: str = "") -> str:
    """Return the absolute path of the Python that starts the hook. Raises HookError when it cannot.

    The distribution's Python is preferred: it outlives virtual environments, is root's, and starts faster than
    most self-built ones. It must read this Python's byte code and have the parts of the standard library that a
    distribution's minimal package leaves out.
    """
    import subprocess
    from importlib.util import MAGIC_NUMBER

    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    named = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    probe = "import _imp, _json, _struct, _ctypes, errno; from importlib.util import MAGIC_NUMBER as m; print(m.hex())"
    for path in (os.path.abspath(chosen),) if chosen else (named, base):
        command = [path, INTERPRETER_OPTIONS, "-c", probe]
        try:
            answer = subprocess.run(command, env={}, capture_output=True, timeout=60, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.strip() == MAGIC_NUMBER.hex().encode():
            return os.path.realpath(path)
    why = f"does not run as Python {sys.version_info.major}.{sys.version_info.minor} with its whole standard library"
    raise HookError(quoted(chosen or base), why, "install the distribution's python3, or name another interpreter")


def find_real_runtime(chosen: str = "") -> str:
    """Return the absolute path of the runtime that oci-gpu-runtime stands before, "" when there is none.

    Raises HookError when the one chosen cannot be run, or is oci-gpu-runtime itself, which would call itself for ever.
    """
    from shutil import which

    for name in (chosen,) if chosen else _REAL_RUNTIMES:
        path = which(name)
        if path and not _is_ours(path):
            return os.path.abspath(path)
    if chosen:
        raise HookError(quoted(chosen), "is no OCI runtime that can be run", "name the path of runc or crun")
    return ""


def _is_ours(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(1 << 17)
    return _MAGIC in start or b"oci-gpu hook-path" in start


def is_checkout() -> bool:
    """Tell whether this package is edited where it lies, beside its pyproject.toml."""
    return os.path.exists(os.path.join(os.path.dirname(PACKAGE), "pyproject.toml"))


def _directories() -> list[str]:
    """Return where the hook's modules are: the package's place and, where that is another, nvidia-ml-py's."""
    from importlib.util import find_spec

    home = os.path.dirname(PACKAGE)
    found = find_spec("pynvml")
    beside = os.path.dirname(found.origin) if found and found.origin else home
    return [home] if beside == home else [home, beside]


def _write_stub(path: str, door: str, arguments: str, interpreter: str, *, runs_alone: bool = False) -> str:
    """Write the script that starts a door of this package, and return its path; `c` behind it, its byte code.

    Raises HookError where only a #! line could start it and the interpreter's path does not fit one.
    """
    shebang = os.fsencode(f"#!{interpreter} {INTERPRETER_OPTIONS}\n")
    fits = len(shebang) <= _LONGEST_SHEBANG and not any(c.isspace() for c in interpreter)
    if runs_alone and not fits:
        why = "is too long for a #! line, or has white space, and the static front was not built"
        raise HookError(
            quoted(interpreter), why, "install a C compiler and reinstall, or use the distribution's python3"
        )
    modules = f"{path.removesuffix('.py')}.modules"
    hotpath_build.write(modules, interpreter, PACKAGE, f"oci_gpu_hook.{door}", is_checkout=is_checkout())
    text = _STUB.format(door=door, directories=ascii(_directories()), modules=ascii(modules), arguments=arguments)
    replace(path, (shebang if fits else b"") + text.encode("ascii"), 0o755 if fits else 0o644)
    replace(path + "c", byte_code(text, path), 0o644)
    return path
