"""Every limit on what comes from outside: bytes, items, levels and seconds, each by the one name that its reader uses.

The worst that a limit lets through costs less than a second and 64 MiB (tests/attack/test_limits.py tries it). The same
table, in words, is in docs/security.md; tests/unit/base/test_limits.py holds the two and the readers together.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# What the engine hands over. runc cannot start a container of more environment than fits into 2 to 6 MiB.
STATE: Final = 1 << 20
CONFIG_JSON_SEARCHED: Final = 16 << 20  # bytes looked through for words by which a container asks
CONFIG_JSON: Final = 4 << 20  # bytes parsed, of a container that may ask; the front searches as many
UPDATE: Final = 1 << 20  # bytes of the resources that `update` is given; engines write some hundred
JSON_ITEMS: Final = 200_000  # commas and opening brackets of any JSON document, which is no less than its values
CONFIG_JSON_ESCAPES: Final = 100_000  # \\u in it that are looked at one by one
POD_NAME: Final = 400  # characters of NAMESPACE/POD/CONTAINER that are kept; Kubernetes has 381 at most
CONTAINER_ID: Final = 220  # bytes; a file name has 255, and the state directory's add a suffix

# What a container asks by.
LISTED: Final = 4096  # items of a list; 2,048 IMEX channels and the MIG devices of sixteen GPUs are below it
IMEX_CHANNELS: Final = 2048  # that a driver has unless it is told otherwise (its parameter ImexChannelCount)
REQUIREMENTS: Final = 64 << 10  # bytes of all NVIDIA_REQUIRE_* together; those of NVIDIA's images have 2 KB
CUDA_VERSION: Final = 256  # bytes; Masterminds/semver, which NVIDIA's hook reads the variable with
VOLUME_LEVELS: Final = 32  # directories of a path that is asked for
VOLUME_PATH: Final = 1024  # bytes of it; longer names follow, and a path has 4,096
WARNINGS: Final = 64  # that one container gets; more are counted

# What an image has.
LD_CACHE: Final = 4 << 20  # bytes; a desktop with 4,000 libraries has 400 KB
LD_CACHE_ENTRIES: Final = 100_000
LD_CACHE_STRING: Final = 4096  # bytes with the NUL: include/uapi/linux/limits.h, PATH_MAX
LD_CONF: Final = 64 << 10  # bytes of ld.so.conf with all that it includes
LD_CONF_FILES: Final = 64
LD_CONF_LEVELS: Final = 4  # of files that include files
LD_CONF_DIRECTORIES: Final = 32  # that they name; images have ten
LD_CONF_NAMES: Final = 16_384  # in all of these directories, and in those of the files; CUDA's have some hundred
UNLISTED_LIBRARIES: Final = 256  # of those directories that the ld cache does not have, whether of use or not
LOADER: Final = 4 << 20  # bytes of glibc's, which has 250 KB, or of what stands in its place
MUSL_PATHS: Final = 64 << 10  # bytes of the list of directories that musl's loader reads
SEARCH_PATH: Final = 64 << 10  # bytes of LD_LIBRARY_PATH
DIRECTORY_NAMES: Final = 4096  # of a directory that is listed
COMPAT_LIBRARIES: Final = 32  # files libcuda.so.* of a compat directory that are looked into; images have one or two
ELF_TABLE: Final = 64 << 10  # bytes of headers, dynamic entries or names of sections; usually 1 to 3 KB
ELF_NOTES: Final = 16 << 10  # bytes of a segment or section of notes; usually less than 1 KB
ELF_SEGMENTS: Final = 64  # linkers make about 12
ELF_SECTIONS: Final = 1024  # linkers make about 40
CONTAINER_FILES_SECONDS: Final = 15.0  # a start works in a container for milliseconds, on a crowded host for a second

# What the kernel and the driver write, with names that others choose.
KERNEL_TABLE: Final = 12 << 20  # bytes of a mountinfo or the like; a container's mount takes 100 to 1,000
MOUNTS: Final = 100_000  # rows of one; the kernel has no more in a namespace (fs.mount-max) unless it is told otherwise
ENVIRONMENT: Final = 8 << 20  # bytes of a process's; the kernel hands over 6 MiB at the most (fs/exec.c)
WRAPPER: Final = 64 << 10  # bytes of a script in the place of a driver's program; they have some hundred
WRAPPERS: Final = 4  # such scripts, one in front of the other
PROC_FILE: Final = 1 << 20  # bytes of a file of the driver's
UNIT_FILE: Final = 64 << 10  # bytes of a unit file of systemd
SYSTEMD_MESSAGE: Final = 1 << 20  # bytes; systemd's about a unit have some kilobytes
SYSTEMD_SAID: Final = 16 << 20  # bytes that systemd may say before the answer; its signals come there too
SYSTEMD_LINE: Final = 16384  # bytes of what it says before the first message
SYSTEMD_SECONDS: Final = 3.0  # for all of it; it answers in a millisecond, on a crowded host that reloads in a second
RUNTIME_SECONDS: Final = 10.0  # that the real runtime may take to tell a container's state; it takes milliseconds
NVML_ANSWER: Final = 4 << 20
NVML_SECONDS: Final = 60.0  # initialising a GPU without persistence mode was seen to take 3 s
HOST_LOG_MESSAGE: Final = 8192  # characters of a refusal; what is said of eight GPUs has 1,000

# What this project and its administrator have written.
CONFIG_TOML: Final = 256 << 10
CONFIG_COMPILED: Final = 512 << 10
INVENTORY: Final = 4 << 20  # bytes; 100 files and 8 GPUs make 30 KB
JOURNAL_ENTRY: Final = 4 << 20  # bytes; those of the largest plans have 60 KB
ENGINE_RECORD: Final = 4 << 20  # bytes of an engine's list of containers, or of an image's configuration
WAITERS: Final = 128  # containers that wait for GPUs at a time; each looks at the record under its lock now and then
LEASES: Final = 2 << 20  # bytes; a lease has 400, and a host with 1,000 containers 400 KB
REMAINS_SECONDS: Final = 1.0  # that a start gives to what others have left
REMAINS_BY_HAND_SECONDS: Final = 30.0  # and a person's command
LOOK_SECONDS: Final = 5.0  # that a look into a living container may take
JOURNAL_LOCK_SECONDS: Final = 5.0  # it is held for milliseconds, unless its holder is stopped
LEASES_LOCK_SECONDS: Final = 10.0  # it is held for a millisecond, unless its holder is stopped or the disk hangs

# What others have written to /etc/cdi and /var/run/cdi. Nothing of it is read on a container's way.
CDI_SPEC: Final = 512 << 10  # bytes; what NVIDIA's toolkit writes for 8 GPUs in 56 MIG devices has 60 KB
CDI_SPEC_LEVELS: Final = 32  # a specification has 6
CDI_SPEC_VALUES: Final = 200_000  # after aliases are followed
CDI_SPECS: Final = 256  # files of one directory

# What Mesos hands over.
MESOS_CONFIG: Final = 16 << 20  # bytes; it holds the task with its data and the image's manifest
MESOS_FIELDS: Final = 100_000  # that are read of it
MESOS_ANCESTORS: Final = 8  # processes; helper, executor and what scripts may stand between
