"""What one source asks for, before the host's policy and the count are applied."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record


class Ask(Record):
    """A request as one source states it.

    kind, source: as in Request. what: the variable or annotation and its value, for messages.
    devices: None if the source asks for no GPU (`void`), () for `none`, ("all",), or names.
    is_profile: whether the single name is a size, such as a MIG profile, which any device of that size satisfies.
    count_decides: no device was named at all, so that only a count says how many.
    variables: the names of the environment variables that make the request.
    imex_channels, features: what CDI names and mounts ask for in addition to the devices, unchecked.
    engine_serves, any_kind: as in Request.
    """

    kind: str
    source: str
    what: str
    devices: tuple[str, ...] | None
    is_profile: bool = False
    count_decides: bool = False
    variables: tuple[str, ...] = ()
    imex_channels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    engine_serves: bool = False
    any_kind: bool = False


class Said(Record):
    """A request as a vendor's variables state it.

    source: as in Request. variables: the names of those that are set. items: what they list.
    declines: whether they say that no device is wanted. outranks_count: whether OCI_GPU_COUNT is ignored.
    implied: what is asked for although no devices are named, None for nothing.
    """

    source: str
    variables: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    declines: bool = False
    outranks_count: bool = False
    implied: Ask | None = None
