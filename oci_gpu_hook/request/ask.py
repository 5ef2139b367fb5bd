"""What one source asks for, before the host's policy and counts are read into it."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record


class Ask(Record):
    """What a source asks for.

    kind, source: as in Request. what: the variable or annotation with its value, for messages.
    devices: None where the source asks for no GPU (`void`), () for `none`, ("all",), or names.
    is_profile: whether the one name is that of a size, such as a MIG profile, which any device of that size serves.
    count_decides: no device was named at all, so that a count alone says how many.
    variables: the names of the environment variables that say so.
    imex_channels, features: those that CDI names and mounts ask for beside the devices, unchecked.
    engine_serves: as in Request.
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


class Said(Record):
    """What a vendor's variables say of devices.

    source: as in Request. variables: the names of those that are set. items: what they list.
    declines: whether they say that no device is wanted. outranks_count: whether OCI_GPU_COUNT is not looked at.
    implied: what is asked for without a word on devices, None for nothing.
    """

    source: str
    variables: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    declines: bool = False
    outranks_count: bool = False
    implied: Ask | None = None
