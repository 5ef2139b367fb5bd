"""Devices of other vendors are counted, leased and waited for as GPUs are."""

from __future__ import annotations

import threading

from tests.runtime.vendors import AMD, HABANA, INTEL, leases, opens


def alone(kind, count=1):
    return {"env": (f"OCI_GPU_COUNT={count}", f"OCI_GPU_KIND={kind}", "OCI_GPU_EXCLUSIVE=1")}


def test_counts_and_leases_of_any_kind(front, plain_bundle, vendors, simulated):
    probes = opens("dri/renderD128", "dri/renderD129")
    sleep = ("/bin/sleep", "60")
    with front.started(plain_bundle(name="first", args=sleep, **alone(AMD))) as first:
        (lease,) = leases(simulated)
        assert (lease["container"], lease["gpus"], lease["exclusive"]) == (first.id, [f"{AMD}=0"], True)
        assert lease["pid"] == first.pid
        seen = front.run(plain_bundle(*probes, name="second", **alone(AMD))).seen()
        assert [seen[probe] for probe in probes] == ["ENOENT", "ENXIO"]
        refused = front.run(plain_bundle(name="third", args=sleep, **alone(AMD, 2))).stderr
        assert f"2 {AMD} devices asked for exclusively" in refused
        assert f"1 of 2 available; {AMD}=0 held by '{first.id}' exclusively" in refused
        named = front.run(plain_bundle(name="named", args=sleep, env=(f"OCI_GPU_DEVICES={AMD}=all",))).stderr
        assert f"{AMD}=0 cannot be granted: container '{first.id}' holds it exclusively" in named
        assert front.run(plain_bundle(name="other", args=("/bin/true",), **alone(INTEL, 2))).status == 0
    assert leases(simulated) == []


def test_two_names_of_a_device_are_one_device(front, plain_bundle, vendors, simulated):
    sleep = ("/bin/sleep", "60")
    env = (f"OCI_GPU_DEVICES={HABANA}=AC0-UUID", "OCI_GPU_EXCLUSIVE=true")
    with front.started(plain_bundle(name="uuid", args=sleep, env=env)):
        refused = front.run(plain_bundle(name="index", args=sleep, env=(f"OCI_GPU_DEVICES={HABANA}=0",)))
        assert "holds it exclusively" in refused.stderr
        assert (
            front.run(plain_bundle(name="free", args=("/bin/true",), env=(f"OCI_GPU_DEVICES={HABANA}=1",))).status == 0
        )


def test_a_wait_covers_a_device_that_is_still_to_come(front, plain_bundle, vendors):
    """As at boot, when the vendor's tool writes its file after the engine has started."""
    path = vendors.specs / "amd.json"
    later = path.read_bytes()
    path.unlink()
    env = (f"OCI_GPU_DEVICES={AMD}=0", "OCI_GPU_WAIT=60s")
    short = front.run(plain_bundle(name="short", args=("/bin/true",), env=(env[0], "OCI_GPU_WAIT=1s"))).stderr
    assert f"CDI device '{AMD}=0': the kernel's KFD lists no AMD GPU" in short
    assert f"and no specification in {vendors.specs} has devices of {AMD}" in short
    assert f"s for the CDI device '{AMD}=0'" in short
    timer = threading.Timer(1.5, path.write_bytes, (later,))
    timer.start()
    seen = front.run(plain_bundle(*opens("dri/renderD128"), name="long", env=env)).seen()
    timer.join()
    assert seen["open=/dev/dri/renderD128"] == "ENXIO"
