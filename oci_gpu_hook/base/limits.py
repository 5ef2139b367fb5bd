"""All limits on input: bytes, items, levels and seconds. Each has one name, which the code that reads the input uses.

The most expensive input within a limit costs less than a second and 64 MiB (tests/attack/test_limits.py tries it).
docs/security.md has the same table in words; tests/unit/base/test_limits.py checks it and the readers against this one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Input from the engine. runc cannot start a container whose environment is larger than 2 to 6 MiB.
STATE: Final = 1 << 20
CONFIG_JSON_SEARCHED: Final = 16 << 20  # bytes searched for words by which a container asks
CONFIG_JSON: Final = 4 << 20  # bytes parsed if the container may ask; the front searches as many
UPDATE: Final = 1 << 20  # bytes of the resources given to `update`; engines write some hundred
JSON_ITEMS: Final = 200_000  # commas and opening brackets in a JSON document, at least as many as values
CONFIG_JSON_ESCAPES: Final = 100_000  # \\u escapes that are examined one by one
POD_NAME: Final = 400  # characters of NAMESPACE/POD/CONTAINER that are kept; Kubernetes has 381 at most
RESIDENT_CALL: Final = 16 << 10  # bytes of what a front asks the resident; LARGEST_CALL of front/resident.c
RESIDENT_SECONDS: Final = 1.0  # for each message of a front before the work; it sends them at once
RESIDENT_WORKERS: Final = 64  # that serve at one time; further fronts start Python
RESIDENT_LEAST_SECONDS: Final = 5.0  # that one lives which cannot serve; systemd gives up after five starts in 10 s
RESIDENT_STDERR: Final = 64 << 10  # bytes that a start may write to its front's stderr; a refusal has some hundred
RESIDENT_STDERR_SECONDS: Final = 1.0  # for which it waits until somebody reads that
RESIDENT_STARTS: Final = 32  # that one worker serves
RESIDENT_MEMORY: Final = 2 << 20  # bytes by which a worker's private memory may grow and still serve the next
RESIDENT_REST_SECONDS: Final = 10.0  # for which a worker that has served waits for the next
CONTAINER_ID: Final = 220  # bytes; a file name has 255, and the state directory's add a suffix

# Input from the container's environment, annotations and mounts.
LISTED: Final = 4096  # items of a list; 2,048 IMEX channels and the MIG devices of sixteen GPUs are fewer
IMEX_CHANNELS: Final = 2048  # the driver's default (its parameter ImexChannelCount)
REQUIREMENTS: Final = 64 << 10  # bytes of all NVIDIA_REQUIRE_* together; those of NVIDIA's images have 2 KB
CUDA_VERSION: Final = 256  # bytes; Masterminds/semver, which NVIDIA's hook reads the variable with
VOLUME_LEVELS: Final = 32  # directories in a path that is asked for
VOLUME_PATH: Final = 1024  # bytes of such a path; file names are appended to it, and a path has at most 4,096
WARNINGS: Final = 64  # for one container; further ones are only counted

# Input from the image.
LD_CACHE: Final = 4 << 20  # bytes; a desktop with 4,000 libraries has 400 KB
LD_CACHE_ENTRIES: Final = 100_000
LD_CACHE_STRING: Final = 4096  # bytes with the NUL: include/uapi/linux/limits.h, PATH_MAX
LD_CONF: Final = 64 << 10  # bytes of ld.so.conf and the files that it includes
LD_CONF_FILES: Final = 64
LD_CONF_LEVELS: Final = 4  # of files that include files
LD_CONF_DIRECTORIES: Final = 32  # named in these files; images have ten
LD_CONF_NAMES: Final = 16_384  # in all of these directories, and in those of the files; CUDA's have some hundred
UNLISTED_LIBRARIES: Final = 256  # in those directories and missing from the ld cache, that are looked into
LOADER: Final = 4 << 20  # bytes of glibc's loader, which has 250 KB, or of what replaces it
MUSL_PATHS: Final = 64 << 10  # bytes of the list of directories that musl's loader reads
SEARCH_PATH: Final = 64 << 10  # bytes of LD_LIBRARY_PATH
DIRECTORY_NAMES: Final = 4096  # of a directory that is listed
COMPAT_LIBRARIES: Final = 32  # files libcuda.so.* read in a compat directory; images have one or two
ELF_TABLE: Final = 64 << 10  # bytes of headers, dynamic entries or names of sections; usually 1 to 3 KB
ELF_NOTES: Final = 16 << 10  # bytes of a segment or section of notes; usually less than 1 KB
ELF_SEGMENTS: Final = 64  # linkers make about 12
ELF_SECTIONS: Final = 1024  # linkers make about 40
CONTAINER_FILES_SECONDS: Final = 15.0  # a start takes milliseconds in a container, on a busy host a second

# Input from the kernel and the driver, with names that others choose.
KERNEL_TABLE: Final = 12 << 20  # bytes of a mountinfo or the like; a container's mount takes 100 to 1,000
MOUNTS: Final = 100_000  # rows of a mountinfo; the kernel's default for a namespace (fs.mount-max)
ENVIRONMENT: Final = 8 << 20  # bytes of a process's environment; the kernel allows at most 6 MiB (fs/exec.c)
WRAPPER: Final = 64 << 10  # bytes of a script that replaces a program of the driver; they have some hundred
WRAPPERS: Final = 4  # such scripts, each of which starts the next
ICD_FILE: Final = 64 << 10  # bytes of a file that names a library of the driver to a loader; it has 200
CSV_FILES: Final = 64  # in a Tegra's directory of CSV files; JetPack has two or three
CSV_BYTES: Final = 1 << 20  # of all of them; JetPack's have 30 KB
CSV_LINES: Final = 16_384  # of all of them; JetPack's have some hundred
CSV_LINKS: Final = 16  # symbolic links, each to the next, that one of their lines names
CSV_NAMES: Final = 4096  # that a pattern in them matches
KERNEL_MESSAGE: Final = 8192  # bytes of a record of its log: kernel/printk, PRINTK_MESSAGE_MAX and its dictionary
XID_TEXT: Final = 120  # characters of the text of a GPU's error that are kept
PROC_FILE: Final = 1 << 20  # bytes of a file of the driver in /proc
UNIT_FILE: Final = 64 << 10  # bytes of a unit file of systemd
SYSTEMD_MESSAGE: Final = 1 << 20  # bytes; messages of systemd about a unit have some kilobytes
SYSTEMD_SAID: Final = 16 << 20  # bytes that systemd may send before the answer, signals included
SYSTEMD_LINE: Final = 16384  # bytes of a line before the first message
SYSTEMD_SECONDS: Final = 3.0  # for the whole exchange; it takes a millisecond, on a busy host during a reload a second
MPS_SECONDS: Final = 8.0  # for an MPS daemon to come up with its limits; it takes 0.13 s
MPS_SAID: Final = 64 << 10  # bytes of its answers and of its log; a start writes some hundred
RUNTIME_SECONDS: Final = 10.0  # for the real runtime to report a container's state; it takes milliseconds
NVML_ANSWER: Final = 4 << 20
NVML_SECONDS: Final = 60.0  # initialising a GPU without persistence mode was seen to take 3 s
HOST_LOG_MESSAGE: Final = 8192  # characters of a refusal; one that lists eight GPUs has 1,000
LOG_LINE: Final = 64 << 10  # bytes of a line of a log that is read; a refusal has at most some kilobytes

# Files of this project and of its administrator.
CONFIG_TOML: Final = 256 << 10
CONFIG_COMPILED: Final = 512 << 10
INVENTORY: Final = 4 << 20  # bytes; 100 files and 8 GPUs make 30 KB
SICK: Final = 64 << 10  # bytes of the marks of sick GPUs; one has 150
JOURNAL_ENTRY: Final = 4 << 20  # bytes; those of the largest plans have 60 KB
ENGINE_RECORD: Final = 4 << 20  # bytes of an engine's list of containers, or of its record of an image
WAITERS: Final = 128  # containers that wait for GPUs at a time; each of them takes the lock of the leases now and then
LEASES: Final = 2 << 20  # bytes; a lease has 400, so a host with 1,000 containers has 400 KB
REMAINS_SECONDS: Final = 1.0  # that a start spends on what ended containers have left
REMAINS_BY_HAND_SECONDS: Final = 30.0  # that a command for people spends on it
COUNTS: Final = 16 << 10  # bytes of the counts for metrics; they have 1,000
COUNTS_LOCK_SECONDS: Final = 0.1  # the lock is held for 50 microseconds; a count that would take longer is lost
LOOK_SECONDS: Final = 5.0  # that an inspection of a running container may take
FREEZE_SECONDS: Final = 0.5  # that a container's processes may take to stand still; a driver's calls do not end for it
PROCESSES_SECONDS: Final = 20.0  # that a look at a container's processes may take; one takes 0.1 ms of CPU
JOURNAL_LOCK_SECONDS: Final = 5.0  # the lock is held for milliseconds, unless its holder is stopped
LEASES_LOCK_SECONDS: Final = 10.0  # the lock is held for a millisecond, unless its holder is stopped or the disk hangs

# CDI specification files of other tools in /etc/cdi and /var/run/cdi. A process apart reads them once after a change.
CDI_SPEC: Final = 512 << 10  # bytes; the file of NVIDIA's toolkit for 8 GPUs with 56 MIG devices has 60 KB
CDI_SPEC_LEVELS: Final = 32  # a specification has 6
CDI_SPEC_VALUES: Final = 200_000  # after aliases are followed
CDI_SPEC_FAULTS: Final = 100  # of one that are told of, each with its line
CDI_SPECS: Final = 256  # files of one directory
CDI_SPECS_TOGETHER: Final = 4 << 20  # bytes of all files; of more the largest are left out
CDI_COMPILED: Final = 2 << 20  # bytes of what is kept of them
CDI_SECONDS: Final = 20.0  # that reading them may take; a few files take 0.1 s
CDI_REFRESH_SECONDS: Final = 120.0  # that `oci-gpu watch` gives to writing this host's; NVML may be asked for it
CDI_REFRESH_LOCK_SECONDS: Final = 60.0  # that one refresh waits for another
CDI_MEMORY: Final = 1 << 30  # bytes of address space of the process that reads them

# Input from Mesos.
MESOS_CONFIG: Final = 16 << 20  # bytes; it contains the task with its data and the image's manifest
MESOS_FIELDS: Final = 100_000  # read in such a message
MESOS_ANCESTORS: Final = 8  # processes: helper, executor and any scripts between them
MESOS_HOOK_SECONDS: Final = 60.0  # for a hook of a CDI specification that states no timeout; NVIDIA's take milliseconds
