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

PACKAGE = Path(oci_gpu_hook.__file__).parent

# Calls that take a path. By a path that is resolved a second time, a container leads the hook elsewhere.
BY_PATH = {
    "os.access", "os.chmod", "os.chown", "os.chdir", "os.chroot", "os.lchown", "os.link", "os.listdir", "os.lstat",
    "os.makedirs", "os.mkdir", "os.mkfifo", "os.mknod", "os.open", "os.readlink", "os.remove", "os.rename",
    "os.replace", "os.rmdir", "os.scandir", "os.stat", "os.statvfs", "os.symlink", "os.truncate", "os.unlink",
    "os.utime", "os.walk", "os.path.exists", "os.path.getsize", "os.path.isdir", "os.path.isfile", "os.path.islink",
    "os.path.lexists", "os.path.realpath", "os.path.samefile", "open",
}  # fmt: skip
BELOW_A_DESCRIPTOR = {"dir_fd", "src_dir_fd", "dst_dir_fd"}
PROC = "of /proc, where the kernel answers"
STATE = "of the state directory, whose owner and mode are checked"
SYSTEMD = "of systemd on the host"
CGROUP = "of the host's cgroup file system"
UNIT_FILES = "unit files of the host"

# file → function → call → why that is right
Allowed = dict[str, dict[str, dict[str, str]]]

PATHS: Allowed = {
    "apply/bundle.py": {"_same_file": {"os.path.realpath": "a program of the host that the bundle names as a hook"}},
    "apply/cleanup.py": {
        "_clean_rootfs": {"os.open": "compared with the identity in the journal, then held"},
        "_in_a_child": {"os.open": "/dev/null of the host"},
        "_is_given_up": {"os.stat": STATE},
        "_sweep": {"os.listdir": STATE},
    },
    "apply/device_access/cgroup.py": {"_open_if_holding": {"os.open": CGROUP}},
    "apply/journal/journal.py": {
        "_is_dead": {"os.open": STATE},
        "dead": {"os.listdir": STATE},
        "drop": {"os.unlink": STATE},
        "has_entry": {"os.access": STATE},
        "is_kept": {"os.access": STATE},
        "Lock.__enter__": {"os.open": STATE},
    },
    "apply/journal/reader.py": {
        "keys": {"os.listdir": STATE},
        "_is_bundle": {"os.path.realpath": "names of bundles, which are compared and not opened"},
    },
    "apply/operations/device_node.py": {
        "_expanded": {"os.listdir": "a directory of device nodes of the host"},
        "_numbers_on_host": {"os.stat": "a device node of the host"},
    },
    "apply/inside.py": {
        "check_namespace": {"os.stat": PROC},
    },
    "apply/process.py": {
        "Process.__init__": {"os.open": PROC},
        "Process._own_descriptors": {"os.open": PROC},
        "Process.open_rootfs": {"os.stat": "the host's root directory"},
        "Process.unmount": {"os.chdir": "the root directory of this process, after the descriptor's own"},
        "check_process": {"os.stat": PROC},
    },
    "apply/systemd/drop_in.py": {
        "_open_directory": {"os.open": SYSTEMD},
        "exists": {"os.path.lexists": SYSTEMD},
        "restricted_unit": {"os.path.isdir": SYSTEMD},
    },
    "apply/systemd/unit_settings.py": {
        "_listed": {"os.listdir": UNIT_FILES},
        "lines": {"os.open": UNIT_FILES},
    },
    "apply/systemd/units.py": {
        "ended_scopes": {"os.path.lexists": SYSTEMD},
        "units": {"os.listdir": SYSTEMD, "os.path.lexists": SYSTEMD},
    },
}

# str.splitlines splits at \r, \x0b, \x0c, \x1c-\x1e, \x85, U+2028 and U+2029 too, bytes.splitlines at \r, and a file in
# text mode ends its lines at \r; the kernel escapes none of them, so that a path with one forges rows of its tables,
# and a text of an engine a line of a unit. Right is split(b"\n").
BY_LINES = ("splitlines", "readlines", "readline")
SPLITLINES: Allowed = {
    "admin/engines/files.py": {"_lines": {"splitlines": "what difflib shows people of a configuration file"}},
    "base/config/toml.py": {"_place": {"splitlines": "the operator's text, for the number of a line"}},
}

# What changes the owner, the mode or the mounts of whatever has a name by then. By descriptor: fchown, fchmod, and
# umount2 of a descriptor's number below /proc/self/fd.
BY_NAME = {"os.chown", "os.chmod", "os.lchown", "os.lchmod", "syscalls.umount2", "syscalls.mount", "shutil.chown"}
CHANGES: Allowed = {
    "apply/process.py": {"Process.unmount": {"syscalls.umount2": "by the number of a descriptor"}},
    "entrypoints/mesos/attach.py": {
        "_see_as_the_host_does": {"syscalls.umount2": "/proc, in a copy of the namespace that nobody else is in"},
    },
}

# Where numbers of system calls are known; everything else calls what `syscalls` has for it.
NUMBERS = ("base/syscalls.py", "base/cpython")


class Calls(ast.NodeVisitor):
    """The calls of a module by the functions in which they are made."""

    def __init__(self):
        self.function = []
        self.found = []

    def visit_FunctionDef(self, node):
        self.function.append(node.name)
        self.generic_visit(node)
        self.function.pop()

    visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_Call(self, node):
        self.found.append((".".join(self.function), node))
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


def test_apply_takes_no_path_outside_the_one_room():
    found = []
    for name, path in modules("apply", but=("apply/rootfs/",)):
        for function, node in calls(path):
            called = name_of(node.func)
            if called in BY_PATH and not BELOW_A_DESCRIPTOR & {keyword.arg for keyword in node.keywords}:
                found.append((name, function, called))
    check(found, PATHS)


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
        (name, function, name_of(node.func))
        for name, path in modules("apply", "lifecycle", "entrypoints")
        for function, node in calls(path)
        if name_of(node.func) in BY_NAME
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
    "admin/doctor/tiny.py": {"_TIMEOUT": "of a container that the doctor starts"},
    "admin/engines/files.py": {"LARGEST": "of engines' configuration, which administrators write"},
    "admin/install/executables.py": {"_LONGEST_SHEBANG": "the kernel's"},
    "admin/simulate/gpus.py": {"MOST_GPUS": "the driver's"},
    "allocation/json_members.py": {"_LONGEST": "the kernel's PATH_MAX"},
    "allocation/pid_namespaces.py": {"_MOST_ANCESTORS": "the kernel's"},
    "allocation/topology.py": {"MOST_PAIRS": "of what is computed"},
    "apply/cleanup.py": {"_MOST_DESCRIPTORS": "the kernel's"},
    "apply/device_access/device_program.py": {"_MOST": "of the format"},
    "apply/device_access/runtime_program.py": {"_LARGEST_NUMBER": "of the format"},
    "apply/journal/entry.py": {"_LONGEST_ID": "of a file name"},
    "apply/rootfs/as_mounted.py": {"_MOST_LINKS": "the kernel's"},
    "apply/systemd/units.py": {"_LONGEST_NAME": "of a file name"},
    "base/errors.py": {"LONGEST_VALUE": "of what is shown"},
    "base/formats/elf.py": {"_LARGEST_FILE": "of an offset", "_LONGEST_NAME": "the kernel's NAME_MAX"},
    "base/formats/ldcache.py": {"LONGEST_NAME": "the kernel's NAME_MAX"},
    "base/formats/ldcache_format.py": {"_MOST_SECTIONS": "of the format"},
    "base/locks.py": {"_LONGEST_PAUSE": "between two tries"},
    "base/mount_table.py": {"_LONGEST_NUMBER": "of the format"},
    "base/syscalls.py": {"_LARGEST_HANDLE": "the kernel's"},
    "devices/cdi/spec_files/rules.py": {
        "LARGEST_ANNOTATIONS": "of the specification",
        "LONGEST_CLOS_ID": "of the specification",
        "_LONGEST_KEY_NAME": "of the specification",
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
