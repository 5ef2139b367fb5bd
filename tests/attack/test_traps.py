"""Every kind of effect, every component of its path, every kind of trap: nothing happens outside of the rootfs.

A trapped container starts with its GPUs, or is refused in one line; and either way nothing of the host is touched, and
when it has ended the image is as it was.
"""

from __future__ import annotations

import shutil

import pytest

from tests.attack.traps import TRAPS, components, effects, lay
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference, tree

EFFECTS = effects("VERSION")
THINNED = 9  # `make test` tries each trap and each component, but not each pair of them
UNDER_RUNC = 6  # in `make attack`, one of so many is tried under runc as well; in `make test` of six times as many


def cases(every: int, chosen: dict | None = None) -> list[tuple[str, str, str]]:
    """Return (effect, component, trap), one of `every`, so that each component meets other traps than its neighbour."""
    places = [(effect, part) for effect, (path, _) in (chosen or EFFECTS).items() for part in components(path)]
    return [
        (effect, component, trap)
        for row, (effect, component) in enumerate(places)
        for column, trap in enumerate(TRAPS)
        if (row * 2 + column) % every == 0
    ]


def systems(effect: str) -> tuple[str, ...]:
    """Return the file systems that the sandbox gets: without them /dev and /proc are the image's own, traps and all."""
    if "node" in effect:
        return ("proc",)
    return ("dev",) if effect == "procfs" else ("proc", "dev")


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_trap_changes_nothing_outside(effect, enter, machine, simulated, directory, canary, tally, full):
    chosen = [
        (number, component, trap)
        for number, (name, component, trap) in enumerate(cases(1 if full else THINNED))
        if name == effect
    ]
    assert chosen
    for number, component, trap in chosen:
        bundle = directory / f"bundle-{number}"
        bundle.mkdir()
        rootfs = images.copy(machine.image("debian"), bundle / "rootfs")
        path = EFFECTS[effect][0].replace("VERSION", simulated.driver_version)
        lay(trap, rootfs, component.replace("VERSION", simulated.driver_version), path, canary)
        canary.seal()
        said = f"{trap} at {component}"
        before, shape = contents(rootfs), tree(rootfs)
        with enter(rootfs, *systems(effect)) as sandbox:
            mounts = sandbox.mounts()
            outcome = sandbox.attach()
            tally.count(outcome)
            assert_mounts_inside(sandbox, mounts, canary, said)
            if outcome.refused:
                assert difference(shape_without_times(shape), shape_without_times(tree(rootfs))) == [], said
        assert sandbox.release().refused == "", said
        assert canary.is_untouched(), said
        assert difference(before, contents(rootfs)) == [], said
        shutil.rmtree(bundle)


def assert_mounts_inside(sandbox, before: list[str], canary, said: str) -> None:
    """Whatever was mounted lies in the rootfs, and shows nothing of the canary."""
    for line in set(sandbox.mounts()) - set(before):
        fields = line.split()
        assert fields[4].startswith(f"{sandbox.rootfs}/"), (said, line)
        assert canary.directory.name not in fields[3], (said, line)


def shape_without_times(found: dict[str, tuple]) -> dict[str, tuple]:
    return {name: (*facts[:4], *facts[7:]) for name, facts in found.items()}


# Under runc the image's /dev and /proc are covered, and a container without its loader cannot say what it sees.
SEEN = {name: row for name, row in EFFECTS.items() if name not in ("node", "nested node", "procfs")}


def under_runc(effect: str, user_namespace: bool, *, full: bool) -> list[tuple[str, str]]:
    """Return the (component, trap) that an effect is tried with: at least one, and others for each of the two kinds."""
    found = [(component, trap) for _, component, trap in cases(1, {effect: SEEN[effect]})]
    every = 2 * UNDER_RUNC * (1 if full else 9)
    first = 11 * (2 * list(SEEN).index(effect) + user_namespace)
    return found[first % min(every, len(found)) :: every]


@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("effect", SEEN)
def test_a_trap_under_runc(effect, user_namespace, runc, make_bundle, simulated, canary, tally, full):
    for number, (component, trap) in enumerate(under_runc(effect, user_namespace, full=full)):
        bundle = make_bundle(
            "read=/secret",
            "fds",
            "mountinfo",
            gpus="all",
            image="debian",
            name=f"bundle-{number}",
            user_namespace=user_namespace,
        )
        # A static probe: the traps may have taken the loader's directory away.
        shutil.copy(_static_probe(make_bundle), bundle.rootfs / "probe")
        path = EFFECTS[effect][0].replace("VERSION", simulated.driver_version)
        lay(trap, bundle.rootfs, component.replace("VERSION", simulated.driver_version), path, canary)
        canary.seal()
        before = contents(bundle.rootfs)
        result = runc.run(bundle)
        tally.count()
        said = f"{trap} at {component}: {result.stderr}"
        if result.status == 0:
            seen = result.seen()
            assert seen["read=/secret"] == "ENOENT", said
            assert canary.directory.name not in seen["mountinfo"], said
            assert not [target for target in seen["fds"] if target.startswith("/") and target != "/dev/null"], said
        elif "oci-gpu-hook" in result.stderr:
            assert "internal error" not in result.complaint(), said
        else:  # runc's own refusal of the image: it may have made something of it before
            continue
        assert canary.is_untouched(), said
        assert difference(before, contents(bundle.rootfs)) == [], said


def _static_probe(make_bundle):
    return make_bundle.machine.image("empty") / "probe"
