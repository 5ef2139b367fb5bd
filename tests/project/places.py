"""The places that take a path outside the one room for them and are right, with the reason: of test_lint_rooms.py."""

from __future__ import annotations

PROC = "of /proc, where the kernel answers"
STATE = "of the state directory, whose owner and mode are checked"
SYSTEMD = "of systemd on the host"
CGROUP = "of the host's cgroup file system"
UNIT_FILES = "unit files of the host"
BUNDLE = "of the engine's bundle, or of this installation"

# file → function → call → why that is right
Allowed = dict[str, dict[str, dict[str, str]]]

APPLY: Allowed = {
    "apply/bundle.py": {"_same_file": {"os.path.realpath": "a program of the host that the bundle names as a hook"}},
    "apply/bundle_record.py": {
        "_sweep": {"os.listdir": STATE, "os.unlink": STATE, "os.path.isdir": "an engine's directory, only looked for"},
        "read": {"os.path.realpath": "an engine's directory, whose name is that of a file of the state directory"},
        "write": {"os.path.realpath": "an engine's directory, whose name is that of a file of the state directory"},
    },
    "apply/cleanup.py": {
        "_clean_rootfs": {"os.open": "compared with the identity in the journal, then held"},
        "_in_a_child": {"os.open": "/dev/null of the host"},
        "_is_given_up": {"os.stat": STATE},
        "_sweep": {"os.listdir": STATE},
    },
    "apply/device_access/stamp.py": {"place_of": {"os.readlink": PROC}, "stamp_of": {"os.open": CGROUP}},
    "apply/device_access/cgroup.py": {"_open_if_holding": {"os.open": CGROUP}},
    "apply/journal/ending.py": {"write": {"os.open": STATE, "os.stat": STATE, "os.unlink": STATE}},
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
        "_numbers_at": {"os.stat": "a device node of the host, at the path that the journal has"},
        "_numbers_on_host": {"os.stat": "a device node of the host"},
    },
    "apply/inside.py": {
        "check_namespace": {"os.stat": PROC},
    },
    "apply/mps/daemon.py": {
        "_Child.__init__": {"os.access": SYSTEMD},
        "_Child._set_limits": {"os.access": STATE},
        "_Child.run": {"os.chdir": "the root directory of this process", "os.open": "/dev/null of the host"},
        "_is_inside": {"os.readlink": PROC},
        "Daemon.__init__": {"os.access": SYSTEMD},
    },
    "apply/mps/ending.py": {"end": {"os.path.lexists": SYSTEMD}},
    "apply/mps/group.py": {
        "_paths": {"os.path.isdir": CGROUP},
        "_write": {"os.open": CGROUP},
        "end": {"os.path.isdir": CGROUP, "os.rmdir": CGROUP},
        "enter": {"os.access": CGROUP, "os.mkdir": CGROUP},
    },
    "apply/mps/place.py": {
        "_remove": {"os.listdir": STATE, "os.rmdir": STATE, "os.unlink": STATE},
        "make": {"os.mkdir": STATE},
        "names": {"os.listdir": STATE},
    },
    "apply/operations/undo.py": {
        "": {
            "os.rmdir as a value": "called with dir_fd, of the directory that was judged",
            "os.unlink as a value": "called with dir_fd, of the directory that was judged",
        },
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
        "_settings": {"os.path.isfile as a value": UNIT_FILES},
        "lines": {"os.open": UNIT_FILES},
    },
    "apply/systemd/units.py": {
        "ended_scopes": {"os.path.lexists": SYSTEMD},
        "units": {"os.listdir": SYSTEMD, "os.path.lexists": SYSTEMD},
    },
}

LIFECYCLE: Allowed = {
    "lifecycle/attach.py": {"_check_root": {"os.stat": "the root directory that the runtime's own state names"}},
    "lifecycle/census.py": {"_namespaces": {"os.readlink": PROC}},
    "lifecycle/descriptors.py": {"_names": {"os.listdir": PROC}, "hidden": {"os.readlink": PROC}},
    "lifecycle/freezing.py": {
        "_file_of": {"os.readlink": PROC},
        "_write": {"os.open": CGROUP},
        "is_marked": {"os.access": STATE},
    },
    "lifecycle/in_use.py": {"_users": {"os.listdir": PROC}},
    "lifecycle/members.py": {"_below": {"os.scandir": CGROUP}, "_namespace": {"os.readlink": PROC}},
    "lifecycle/cdi_container.py": {"_of_host": {"os.stat": "a device node of the host that config.json names"}},
    "lifecycle/container_user.py": {
        "of": {"os.access": "a device node of the host"},
        "of_running": {"os.stat": PROC},
    },
    "lifecycle/healing.py": {"Healer._take_stock": {"os.stat": STATE}},
    "lifecycle/journaling.py": {
        "_sources": {"os.path.exists": "device nodes of the host that a CDI specification names"},
    },
    "lifecycle/running.py": {
        "_mount_namespace": {"os.readlink": PROC},
        "of_bundle": {"os.path.realpath": "names of bundles, which are compared and not opened"},
    },
    "lifecycle/verify.py": {"_node_in": {"os.access": "a descriptor below /proc/self/fd"}},
}
ENTRYPOINTS: Allowed = {
    "entrypoints/resident/build.py": {
        "Build.here": {"os.path.realpath": "this process's interpreter"},
        "_identity": {"os.stat": "files of this installation"},
    },
    "entrypoints/resident/manager.py": {
        "Manager.__init__": {"os.open": "/dev/null of the host"},
        "main": {"os.chdir": "the root directory of this process"},
    },
    "entrypoints/resident/place.py": {"open_process": {"os.open": PROC}},
    "entrypoints/resident/unchanged.py": {
        "Before.set_back": {"os.chdir": "the root directory of this process"},
        "_descriptors": {"os.listdir": PROC},
    },
    "entrypoints/slurm/choice.py": {
        "_Openable.__contains__": {"os.access": "a node of the host, for its device cgroup"}
    },
    "entrypoints/slurm/door.py": {
        "run": {"os.path.lexists": "the runtime's state, in the user's own state directory"},
        "_afterwards": {"os.path.lexists": "the runtime's state, in the user's own state directory"},
    },
    "entrypoints/slurm/namespace.py": {"_write": {"os.open": "/proc/self"}},
    "entrypoints/mesos/attach.py": {
        "_leave": {"os.open": "a file of the cgroup above one that is held by a descriptor"},
    },
    "entrypoints/mesos/bundle.py": {
        "drop_ended": {"os.listdir": STATE, "os.rmdir": STATE, "os.unlink": STATE},
        "write": {"os.mkdir": STATE, "os.readlink": PROC},
    },
    "entrypoints/mesos/cgroups.py": {"exists": {"os.path.isdir": CGROUP}, "of_process": {"os.path.exists": CGROUP}},
    "entrypoints/mesos/described.py": {"added": {"os.readlink": PROC}},
    "entrypoints/mesos/proc_of_host.py": {
        "Entered.__enter__": {"os.open": "this process's own namespace and directory"},
        "enter": {"os.open": "the root directory of this process"},
    },
    "entrypoints/mesos/stages.py": {"_become": {"os.open": "/dev/null of the host"}},
    "entrypoints/mesos/shim.py": {"_environment": {"open": "a descriptor of the front's, by its number"}},
    "entrypoints/runtime.py": {
        "_check_hook": {"os.access": BUNDLE},
        "_hold": {"os.access": BUNDLE},
    },
    "entrypoints/real_runtime.py": {"check": {"os.access": "the runtime of this installation"}},
    "entrypoints/runtime_bundle.py": {"replace": {"os.path.realpath": BUNDLE, "os.stat": BUNDLE}},
    "entrypoints/runtime_call.py": {"_log": {"os.open": "the runtime's log, which the engine names"}},
    "entrypoints/runtime_standby.py": {
        "Standby._let_go": {"os.open": "/dev/null of the host"},
        "Standby._made": {"os.mkfifo": STATE, "os.open": STATE},
        "Standby.serve": {"os.chdir": "the root directory of this process", "os.open": STATE},
        "_drop": {"os.unlink": STATE},
        "_sweep": {"os.listdir": STATE},
    },
    "entrypoints/runtime_update.py": {"_read_again": {"os.stat": "a file that the engine names"}},
}
PATHS = {"apply": APPLY, "lifecycle": LIFECYCLE, "entrypoints": ENTRYPOINTS}
