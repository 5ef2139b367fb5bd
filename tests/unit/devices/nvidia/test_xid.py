"""The driver's errors in the kernel's log: which GPU, which number, and whether only a reset helps."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices.nvidia.xid import SICK, error_in

GPU = "00000000:3b:00.0"


@pytest.mark.parametrize(
    ("message", "number", "is_grave"),
    [
        (b"NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", 79, True),
        (b"NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", 79, True),
        (b"NVRM: Xid (PCI:0000:3B:00): 48, pid=1, An uncorrectable double bit error (DBE)", 48, True),
        (b"NVRM: Xid (PCI:0000:3b:00.0): 119, Timeout after 45s of waiting for RPC response", 119, True),
        (b"NVRM: Xid (PCI:00000000:3b:00): 62", 62, True),
        (b"NVRM: Xid (PCI:0000:3b:00): 13, pid=79749, name=exe, Graphics Exception", 13, False),
        (b"NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 31, pid=7, name=python3, MMU Fault", 31, False),
        (b"NVRM: Xid (PCI:0000:3b:00): 109, pid=7, name=python3, CTX SWITCH TIMEOUT", 109, False),
        (
            b"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
            154,
            True,
        ),
        (
            b"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
            154,
            False,
        ),
    ],
)
def test_errors(message, number, is_grave):
    found = error_in(message)
    assert found is not None
    assert (found.bus_id, found.number, found.is_grave) == (GPU, number, is_grave)


@pytest.mark.parametrize(
    "message",
    [
        b"NVRM: Xid (PCI:[1234]: segfault at 0 ip 0",  # a process may be called `NVRM: Xid (PCI:`
        b"traps: NVRM: Xid (PCI:0000:3b:00): 79",
        b"x NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        b"NVRM: Xid (PCI:0000:3b): 79",
        b"NVRM: Xid (PCI:0000:3b:00): 123456",
        b"NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
        b"",
    ],
)
def test_what_is_none(message):
    found = error_in(message)
    assert found is None or found.number not in SICK


def test_a_text_is_cut():
    found = error_in(b"NVRM: Xid (PCI:0000:3b:00): 79, " + b"x" * 8000)
    assert found is not None
    assert len(found.text) == 120
