"""Reads how many GPUs Mesos has given a container: `gpus` in the ContainerConfig that the agent has checkpointed.

The agent writes RUNTIME_DIR/containers/ID[/containers/ID…]/config before it starts anything in the container: four
bytes of length in the machine's order, then the message (src/slave/containerizer/mesos/containerizer.cpp,
3rdparty/stout/include/stout/protobuf.hpp of Mesos 1.11). Field numbers: include/mesos/slave/containerizer.proto and
include/mesos/mesos.proto.
"""

from __future__ import annotations

import os
import sys
from struct import unpack_from

from oci_gpu_hook.base import limits, processes
from oci_gpu_hook.base.errors import InvalidInput, StateError, quoted, reason
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_RESOURCES, _NAME, _SCALAR, _VALUE = 13, 1, 3, 1  # ContainerConfig.resources; Resource.name, .scalar; Scalar.value
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types (protobuf.dev, "Encoding")
_LONGEST_VARINT: Final = 10
_DIRECTORY: Final = b"MESOS_CONTAINERIZER_RUNTIME_DIRECTORY"
_REMEDY: Final = "this version of Mesos may write it in another form; name the GPUs in the task's environment instead"


def directory_of_ancestors(container: str) -> str:
    """Return the runtime directory with which an ancestor of this process was started, "" if none was.

    This is for launches by mesos-executor, whose environment the task chooses; the helper above it has the agent's. The
    agent makes up the container's name, so nobody can have chosen it before: an ancestor with that name can be trusted.
    """
    found = ""
    pid = os.getppid()
    for _ in range(limits.MESOS_ANCESTORS):
        try:
            values = processes.variable(pid, _DIRECTORY)
        except OSError:
            return found
        for value in values:
            if os.path.basename(value) == os.fsencode(container):
                found = os.fsdecode(value)
        pid = processes.parent(pid)
    return found


def gpus(directory: str) -> int | None:
    """Return how many GPUs the container of a runtime directory was given; None if the agent does not say.

    Raises InvalidInput for a file that cannot be read.
    """
    path = os.path.join(directory, "config")
    try:
        return read_gpus(read_trusted(path, limits.MESOS_CONFIG), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(quoted(path), reason(error), _REMEDY, "OGH1703") from None
    except StateError as error:
        raise InvalidInput(quoted(path), error.why, "find out who changed it", "OGH1703") from None


def read_gpus(data: bytes, what: str) -> int | None:
    """Do the same for the contents of such a file."""
    message = data[4:]
    try:
        _check_size(data[:4], message)
        room = [limits.MESOS_FIELDS]
        resources = _messages(message, _RESOURCES, room)
        amounts = [_amount(resource, room) for resource in resources if _is_gpus(resource, room)]
    except ValueError as error:
        raise InvalidInput(quoted(what), f"is not a container's configuration: {error}", _REMEDY, "OGH1703") from None
    total = sum(amounts)
    if not (0 <= total < 1 << 16 and total == int(total)):
        raise InvalidInput(quoted(what), f"gives the container {total} GPUs", "give tasks whole GPUs", "OGH1703")
    return int(total) if amounts else None


def _check_size(stated: bytes, message: bytes) -> None:
    size = int.from_bytes(stated, sys.byteorder)
    if len(stated) != 4 or size != len(message):
        raise ValueError(f"it holds {len(message)} bytes and says {size}")


def _is_gpus(resource: bytes, room: list[int]) -> bool:
    return any(name == b"gpus" for name in _messages(resource, _NAME, room))


def _amount(resource: bytes, room: list[int]) -> float:
    """Return a scalar resource's value. If a field occurs twice the last one counts."""
    amount = 0.0
    for scalar in _messages(resource, _SCALAR, room):
        for number, wire, value in _fields(scalar, room):
            if (number, wire) == (_VALUE, _FIXED64):
                (amount,) = unpack_from("<d", value)
    return amount


def _messages(data: bytes, wanted: int, room: list[int]) -> Iterator[bytes]:
    return (value for number, wire, value in _fields(data, room) if (number, wire) == (wanted, _BYTES))


def _fields(data: bytes, room: list[int]) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, wire type and bytes of each field of a message. Raises ValueError for what is not a message.

    room: how many fields of the file may still be read; it is counted down.
    """
    at = 0
    while at < len(data):
        room[0] -= 1
        if room[0] < 0:
            raise ValueError(f"it has more than {limits.MESOS_FIELDS} fields")
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            start = at
            _, end = _varint(data, at)
        elif wire == _BYTES:
            size, start = _varint(data, at)
            end = start + size
        elif wire in (_FIXED64, _FIXED32):
            start, end = at, at + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if not key >> 3 or end > len(data):
            raise ValueError(f"not a field at byte {at}")
        yield key >> 3, wire, data[start:end]
        at = end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"a number without an end at byte {at}")
