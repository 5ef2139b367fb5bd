"""A container as the stand-in of an agent is told of it, and what an agent checkpoints of it."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field


@dataclass
class Container:
    """What is launched. kind: command (a task, by mesos-executor), custom (an executor or nested task), debug.

    image: a docker-archive tar, "" for the host's file system. gpus: resource, 0 for none. granted: minors that the
    stock isolator has given, None where it is off. volume: its copy of the driver. own_cgroup: share_cgroups=false.
    nested: launched one after another; with `group` all at once, as a task group is.
    more: other members of the launch information. fill: bytes that it is to have as an entry of the environment.
    """

    kind: str = "command"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    image: str = ""
    command: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    user: str = "root"
    gpus: float = 0
    granted: list[int] | None = None
    volume: str = ""
    pid_namespace: bool = False
    own_cgroup: bool = False
    capabilities: list[str] | None = None
    pre_exec: list[dict] = field(default_factory=list)
    nested: list[dict] = field(default_factory=list)
    group: bool = False
    checkpoint: bool = True
    more: dict = field(default_factory=dict)
    fill: int = 0


def container_config(container: Container, sandbox: str) -> bytes:
    """Return the agent's checkpoint of what was launched: a length and a ContainerConfig (numbers: its .proto)."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)

    def text(number: int, value: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(value)) + value

    def resource(name: str, amount: float) -> bytes:
        scalar = varint(1 << 3 | 1) + struct.pack("<d", amount)
        return text(1, name.encode()) + varint(2 << 3) + varint(0) + text(3, scalar) + text(6, b"*")

    given = {"cpus": 0.1, "mem": 32.0} | ({"gpus": container.gpus} if container.gpus else {})
    message = text(3, sandbox.encode()) + text(4, b"root") + text(11, text(3, b"x" * 300))
    message += b"".join(text(13, resource(name, amount)) for name, amount in given.items())
    message += varint(14 << 3) + varint(1)
    return struct.pack("=I", len(message)) + message
