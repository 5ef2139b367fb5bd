"""What the container's image is, as far as the plan depends on it: C library, library directories, ld cache."""

from __future__ import annotations

from oci_gpu_hook.record import Record


class CompatLibrary(Record):
    """A CUDA forward-compatibility library that the image ships (/usr/local/cuda/compat/libcuda.so.*).

    note: the JSON text of its ELF note .note.cuda.fwd_compatibility, "" where it has none.
    """

    path: str
    note: str


class Image(Record):
    """Facts of a rootfs. Paths are the container's. library_directory_32 is "" where there is no place for them.

    libc: "glibc", "musl" or "" (neither loader found). ld_cache: the bytes of /etc/ld.so.cache, b"" without one.
    """

    libc: str
    library_directory: str
    library_directory_32: str = ""
    ld_cache: bytes = b""
    compat: tuple[CompatLibrary, ...] = ()
