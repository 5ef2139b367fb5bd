"""The facts of a container's image that a plan depends on. `apply.image_facts` reads them from the rootfs."""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.formats.ldcache import Entry

MACHINE: Final = os.uname().machine


class Image(Record):
    """Facts of a rootfs. Paths are the container's. library_directory_32 is "" if 32-bit libraries have no place.

    libc: "glibc" (its loader reads /etc/ld.so.cache), "musl" or "" (any other, or none). ld_cache: the bytes of
    /etc/ld.so.cache, b"" if there is none. searched: False if there is none and glibc's loader does not look into
    library_directory by itself.
    unlisted: libraries that the ld cache should list and does not; decisions: what was chosen for the image, and why.
    of_vendor: the facts that the requested vendor's room has read in addition.
    """

    libc: str
    library_directory: str
    library_directory_32: str = ""
    ld_cache: bytes = b""
    searched: bool = True
    of_vendor: Record | None = None
    unlisted: tuple[Entry, ...] = ()
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
