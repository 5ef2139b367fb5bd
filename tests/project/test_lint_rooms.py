"""What the code of a room may not do, whoever writes it: the kinds of faults by which containers got out before.

Each rule has the places that break it and are right, with the reason. A place that is not in the list fails, and so
does one that is in the list and not in the code any more.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import oci_gpu_hook
from tests.project.places import PATHS, Allowed

PACKAGE = Path(oci_gpu_hook.__file__).parent

# Calls that take a path. By a path that is resolved a second time, a container leads the hook elsewhere.
BY_PATH = {
    "os.access", "os.chmod", "os.chown", "os.chdir", "os.chroot", "os.lchown", "os.link", "os.listdir", "os.lstat",
    "os.makedirs", "os.mkdir", "os.mkfifo", "os.mknod", "os.open", "os.readlink", "os.remove", "os.rename",
    "os.replace", "os.rmdir", "os.scandir", "os.stat", "os.statvfs", "os.symlink", "os.truncate", "os.unlink",
    "os.utime", "os.walk", "os.fwalk", "os.removedirs", "os.renames", "os.getxattr", "os.listxattr", "os.setxattr",
    "os.removexattr", "os.pathconf", "os.path.exists", "os.path.getsize", "os.path.getatime", "os.path.getctime",
    "os.path.getmtime", "os.path.isdir", "os.path.isfile", "os.path.islink", "os.path.ismount", "os.path.lexists",
    "os.path.realpath", "os.path.samefile", "open",
}  # fmt: skip
BELOW_A_DESCRIPTOR = {"dir_fd", "src_dir_fd", "dst_dir_fd"}
# str.splitlines splits at \r, \x0b, \x0c, \x1c-\x1e, \x85, U+2028 and U+2029 too, bytes.splitlines at \r, and a file in
# text mode ends its lines at \r; the kernel escapes none of them, so that a path with one forges rows of its tables,
# and a text of an engine a line of a unit. Right is split(b"\n").
BY_LINES = ("splitlines", "readlines", "readline")
SPLITLINES: Allowed = {
    "admin/logs/host.py": {"HostLog.past": {"readline": "of bytes, so at a newline alone, and with a limit"}},
    "admin/logs/rotated.py": {"_whole_lines": {"readline": "of bytes, so at a newline alone, and with a limit"}},
    "admin/engines/files.py": {"_lines": {"splitlines": "what difflib shows people of a configuration file"}},
    "base/config/toml.py": {"_place": {"splitlines": "the operator's text, for the number of a line"}},
}

# What changes the owner, the mode or the mounts of whatever has a name by then. By descriptor: fchown, fchmod, and
# umount2 of a descriptor's number below /proc/self/fd.
BY_NAME = {"os.chown", "os.chmod", "os.lchown", "os.lchmod", "syscalls.umount2", "syscalls.mount", "shutil.chown"}
CHANGES: Allowed = {
    "apply/process.py": {"Process.unmount": {"syscalls.umount2": "by the number of a descriptor"}},
    "entrypoints/mesos/proc_of_host.py": {
        "enter": {"syscalls.umount2": "/proc, in a copy of the namespace that nobody else is in"},
    },
}

# Where numbers of system calls are known; everything else calls what `syscalls` has for it.
NUMBERS = ("base/syscalls.py", "base/cpython")


class Found(list):
    """Calls, each with its function; `names` are attributes, likewise."""

    def __init__(self):
        super().__init__()
        self.names = []


class Calls(ast.NodeVisitor):
    """The calls of a module by the functions in which they are made, and the attributes that are named there."""

    def __init__(self):
        self.function = []
        self.found = Found()

    def visit_FunctionDef(self, node):
        self.function.append(node.name)
        self.generic_visit(node)
        self.function.pop()

    visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_Call(self, node):
        self.found.append((".".join(self.function), node))
        self.generic_visit(node)

    def visit_Attribute(self, node):
        self.found.names.append((".".join(self.function), node))
        self.generic_visit(node)


@cache
def calls(path):
    visitor = Calls()
    visitor.visit(ast.parse(path.read_text()))
    return visitor.found


def modules(*rooms, but=()):
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = str(path.relative_to(PACKAGE))
            if not name.startswith(but):
                yield name, path


def name_of(node):
    """Return what is called, as it stands there: os.path.exists, open, text.splitlines."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ".".join(["", *parts])


def check(found, allowed):
    """Compare places (file, function, call) with those that are allowed."""
    listed = {
        (file, function, call)
        for file, functions in allowed.items()
        for function, reasons in functions.items()
        for call in reasons
    }
    new, gone = (sorted(map(" ".join, places)) for places in (set(found) - listed, listed - set(found)))
    assert not new, "not allowed here; the head of this file says why: " + ", ".join(new)
    assert not gone, "allowed, and not in the code any more: " + ", ".join(gone)


def is_below_a_descriptor(node):
    """Tell whether a call names what it is about below a descriptor, by a single name."""
    given = [keyword.value for keyword in node.keywords if keyword.arg in BELOW_A_DESCRIPTOR]
    if not given or any(isinstance(each, ast.Constant) for each in given):  # dir_fd=None is a path's
        return False
    return not any(isinstance(each, ast.Constant) and "/" in str(each.value) for each in node.args)


def taking_paths(source):
    """Yield function and call of what takes a path in a module; also of what is only named, to be called elsewhere."""
    called = set()
    for function, node in source:
        called.add(node.func)
        name = name_of(node.func)
        if name in BY_PATH and not is_below_a_descriptor(node):
            yield function, name
    for function, node in source.names:
        if node not in called and name_of(node) in BY_PATH:
            yield function, f"{name_of(node)} as a value"


@pytest.mark.parametrize("room", PATHS)
def test_a_room_takes_no_path_outside_the_one_for_them(room):
    found = []
    for name, path in modules(room, but=("apply/rootfs/",)):
        found += [(name, function, called) for function, called in taking_paths(calls(path))]
    check(found, PATHS[room])


# Under another name a call is none of those above: so there are no other names, and no other modules that do the same.
OTHER_WAYS = {"posix", "posixpath", "io", "shutil", "pathlib", "glob", "tempfile", "fileinput", "ctypes", "nt"}
MODULES: Allowed = {
    "apply/rootfs/as_mounted.py": {"": {"tempfile": "a directory in the host's /tmp, which has no name any more"}},
}


def test_calls_are_known_by_one_name():
    found = []
    for name, path in modules("apply", "lifecycle", "entrypoints"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in ({"os", "os.path", "builtins"} | OTHER_WAYS):
                found.append((name, "", f"from {node.module}"))
            elif isinstance(node, ast.Import):
                found += [(name, "", each.name) for each in node.names if each.name in OTHER_WAYS]
                found += [
                    (name, "", f"os as {each.asname}") for each in node.names if each.name == "os" and each.asname
                ]
            elif isinstance(node, ast.Call) and name_of(node.func) in ("getattr", "__import__", "eval", "exec"):
                found += [(name, "", name_of(node.func))] if "os" in [name_of(each) for each in node.args] else []
    check(found, MODULES)


def test_no_text_is_split_where_only_python_sees_the_end_of_a_line():
    found = [
        (name, function, node.func.attr)
        for name, path in modules("")
        for function, node in calls(path)
        if isinstance(node.func, ast.Attribute) and node.func.attr in BY_LINES
    ]
    check(found, SPLITLINES)


def test_owner_mode_and_mounts_are_changed_by_descriptor():
    found = [
        (name, function, name_of(node))
        for name, path in modules("apply", "lifecycle", "entrypoints")
        for function, node in calls(path).names
        if name_of(node) in BY_NAME
    ]
    check(found, CHANGES)


def test_system_calls_have_their_numbers_in_one_place():
    found = []
    for name, path in modules("", but=NUMBERS):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.append(node.target.id)
            found += [(name, each) for each in names if each.lstrip("_").startswith(("NR_", "SYS_"))]
        for function, node in calls(path):
            if name_of(node.func).rpartition(".")[2] in ("raw", "syscall") and node.args:
                found += [(name, function)] if isinstance(node.args[0], ast.Constant) else []
    assert found == []


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("os.path.exists(a)", "os.path.exists"),
        ("open(a)", "open"),
        ("f(a).b.splitlines()", ".b.splitlines"),
    ],
)
def test_what_is_called(code, called):
    assert name_of(ast.parse(code).body[0].value.func) == called


# How much of what comes from outside is taken stands in base/limits.py, with its test of time and memory. These are
# facts of formats and of the kernel, or bounds on what this project makes itself.
BOUND = re.compile(r"_?(LARGEST|MOST|LONGEST|DEEPEST|SMALLEST)(_|$)|_?(PATIENCE|TIMEOUT)$")
NO_LIMITS = {
    "admin/cli/run.py": {"_TIMEOUT": "of a command that somebody watches, who can say another"},
    "admin/doctor/tiny.py": {"_TIMEOUT": "of a container that the doctor starts"},
    "admin/engines/files.py": {"LARGEST": "of engines' configuration, which administrators write"},
    "admin/cli/living.py": {"_LONGEST": "of a time that a person gives"},
    "admin/cli/near_misses.py": {"_LONGEST": "of names of this project", "_MOST": "names that people are told of"},
    "admin/install/executables.py": {"_LONGEST_SHEBANG": "the kernel's"},
    "admin/simulate/gpus.py": {"MOST_GPUS": "the driver's"},
    "admin/simulate/other_vendors.py": {"MOST_PARTS": "the product's"},
    "allocation/json_members.py": {"_LONGEST": "the kernel's PATH_MAX"},
    "allocation/pid_namespaces.py": {"_MOST_ANCESTORS": "the kernel's"},
    "allocation/topology.py": {"MOST_PAIRS": "of what is computed"},
    "apply/device_access/device_program.py": {"_MOST": "of the format"},
    "apply/device_access/runtime_program.py": {"_LARGEST_NUMBER": "of the format"},
    "apply/journal/entry.py": {"_LONGEST_ID": "of a file name"},
    "apply/mps/place.py": {"_LONGEST_PATH": "the kernel's"},
    "apply/rootfs/as_mounted.py": {"_MOST_LINKS": "the kernel's"},
    "apply/systemd/units.py": {"_LONGEST_NAME": "of a file name"},
    "base/errors.py": {"LONGEST_VALUE": "of what is shown"},
    "base/formats/elf.py": {"_LARGEST_FILE": "of an offset", "_LONGEST_NAME": "the kernel's NAME_MAX"},
    "base/formats/ldcache.py": {"LONGEST_NAME": "the kernel's NAME_MAX"},
    "base/formats/ldcache_format.py": {"_MOST_SECTIONS": "of the format"},
    "base/inherited.py": {"_MOST_DESCRIPTORS": "the kernel's"},
    "base/locks.py": {"_LONGEST_PAUSE": "between two tries"},
    "base/mount_table.py": {"_LONGEST_NUMBER": "of the format"},
    "base/syscalls.py": {"_LARGEST_HANDLE": "the kernel's"},
    "devices/cdi/spec_files/directories.py": {"_MOST_LINKS": "the kernel's"},
    "devices/cdi/spec_files/fields.py": {"_MOST_DIGITS": "of 64 bits"},
    "devices/cdi/spec_files/rules.py": {
        "LARGEST_ANNOTATIONS": "of the specification",
        "LONGEST_CLASS": "of the specification",
        "LONGEST_CLOS_ID": "of the specification",
        "LONGEST_VENDOR": "of the specification",
        "_LONGEST_KEY_NAME": "of the specification",
        "_LONGEST_NAME": "the kernel's NAME_MAX",
        "_LONGEST_PATH": "the kernel's PATH_MAX",
        "_LONGEST_SUBDOMAIN": "of the specification",
    },
    "devices/nvidia/cdi_hook.py": {"_LONGEST_MINOR": "of the format"},
    "devices/nvidia/driver_root.py": {"_MOST_LINKS": "the kernel's"},
    "devices/nvidia/refresh.py": {"_PATIENCE": "with another of this project's processes"},
    "devices/nvidia/requirements.py": {"_LARGEST_PART": "of the format", "_LONGEST_TERM": "NVIDIA's"},
    "entrypoints/mesos/accounting.py": {"PATIENCE": "with the agent, which gives the GPUs back"},
    "entrypoints/mesos/bundle.py": {"_LONGEST_NAME": "of a file name"},
    "entrypoints/mesos/resources.py": {"_LONGEST_VARINT": "of the format"},
    "entrypoints/mesos/shim.py": {"_LONGEST_TEXT": "the kernel's"},
    "apply/process.py": {"_LARGEST_PID": "the kernel's"},
    "request/nvidia/imex.py": {"LARGEST_CHANNEL": "of a device number"},
    "request/nvidia/suggestions.py": {
        "_LONGEST_NAME": "of what is corrected",
        "_LONGEST_RANGE": "of what is written out",
    },
    "request/suggestions.py": {"_LONGEST": "of what is corrected"},
    "request/values.py": {"LARGEST_NUMBER_DIGITS": "of the format"},
}


def test_limits_stand_in_one_table():
    found = []
    for name, path in modules("", but=("base/limits.py",)):
        for node in ast.parse(path.read_text()).body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", ())
            if isinstance(getattr(node, "value", None), ast.Attribute):
                continue  # another name for one of the table
            found += [(name, "", each.id) for each in targets if isinstance(each, ast.Name) and BOUND.match(each.id)]
    check(found, {file: {"": reasons} for file, reasons in NO_LIMITS.items()})


# What the kernel says of mounts and cgroups is bytes from the first to the last: names in it are anybody's.
TABLES = re.compile(r"(^|/)(mountinfo|mounts|cgroup)$")
READERS = {"read_file", "host.read_bytes"}


def test_tables_of_the_kernel_are_read_as_bytes():
    found = []
    for name, path in modules("", but=("admin/simulate/",)):
        for function, node in calls(path):
            texts = [each for each in ast.walk(ast.Tuple(elts=node.args)) if isinstance(each, ast.Constant)]
            named = [each.value for each in texts if type(each.value) is str and TABLES.search(each.value)]
            takes_it_itself = named and not any(isinstance(each, ast.Call) for each in node.args)
            if takes_it_itself and any("/" in text or text == "mountinfo" for text in named):
                found.append((name, function, name_of(node.func)))
    assert [each for each in found if each[2] not in READERS] == []
    assert len(found) > 4  # else the rule looks past them


# A file is read up to a limit, or is one that this process has made.
ROOMS_OF_A_START = ("allocation", "apply", "base", "devices", "entrypoints", "lifecycle", "oci", "plan", "request")
WHOLE: Allowed = {
    "entrypoints/mesos/shim.py": {"_environment": {"file.read": "what the front was started with, in memory"}},
}


def test_no_file_is_read_without_a_limit():
    found = [
        (name, function, name_of(node.func))
        for name, path in modules(*ROOMS_OF_A_START)
        for function, node in calls(path)
        if isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read", "readall", "read_text", "read_bytes")
        and not node.args
        and not node.keywords
        and name_of(node.func) not in ("store.read", "self.read")
    ]
    check(found, WHOLE)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.unlink(a)", ["os.unlink"]),
        ("os.unlink(a, dir_fd=b)", []),
        ("os.unlink(a, dir_fd=None)", ["os.unlink"]),
        ("os.unlink('a/b', dir_fd=b)", ["os.unlink"]),
        ("remove = os.unlink", ["os.unlink as a value"]),
        ("map(os.unlink, a)", ["os.unlink as a value"]),
        ("os.getxattr(a, b)", ["os.getxattr"]),
    ],
)
def test_what_takes_a_path(code, found):
    visitor = Calls()
    visitor.visit(ast.parse(code))
    assert [called for _function, called in taking_paths(visitor.found)] == found
