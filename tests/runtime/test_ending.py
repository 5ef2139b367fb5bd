"""The end of a container takes back all that it was given, and ordinary ones start no Python for that."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.counted import is_front, lay_hook
from tests.runtime.host import contents, difference
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root


@pytest.fixture
def host(directory):
    """A host of the test's own, with two GPUs."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


@pytest.fixture
def interpreters(directory, hook):
    """Return the stages for which Python was started, in order."""
    if not is_front(hook):
        pytest.skip("the front was not built")
    lay_hook(directory / "oci-gpu-hook", hook, directory / "interpreters")
    marks = directory / "interpreters"
    return lambda: marks.read_text().split() if marks.exists() else []


@pytest.fixture
def bundle(make_bundle, host, directory, interpreters):
    """Make a bundle with the hook that counts; `one_list`: its arguments are those of `prestart` at all stages."""

    def make(*probe, one_list=False, **options):
        made = make_bundle(*probe, config=host.config, **options)
        for entries in made.config["hooks"].values():
            for entry in entries:
                entry["path"] = str(directory / "oci-gpu-hook")
                if one_list:
                    entry["args"][-1] = "prestart"
        return made

    return make


@pytest.fixture
def attach(runtime, host):
    def call(container):
        path = Path(sys.executable).with_name("oci-gpu")
        options = ("--config", host.config, "attach", container.id, "--count", "1", "--runtime-root", runtime.state_dir)
        done = runtime.host.call(path, *options, check=False)
        assert done.returncode == 0, done.stderr

    return call


def entries(host):
    directory = host.state_dir / "containers"
    return sorted(name for name in os.listdir(directory) if name != ".lock") if directory.exists() else []


def leases(host):
    return json.loads((host.state_dir / "leases.json").read_bytes())["leases"]


@pytest.mark.parametrize("one_list", [False, True])
def test_an_ordinary_container_ends_without_python(runtime, bundle, host, interpreters, one_list):
    made = bundle(args=("/bin/true",), gpus="all", one_list=one_list)
    image = contents(made.rootfs)
    runtime.run(made).seen()
    assert interpreters() == ["prestart"]
    assert difference(image, contents(made.rootfs)) == []
    assert (entries(host), leases(host)) == ([], [])


@pytest.mark.parametrize("one_list", [False, True])
def test_what_was_attached_to_one_that_asked_for_nothing(runtime, bundle, host, interpreters, attach, one_list):
    made = bundle(args=("/bin/sleep", "100"), gpus=None, one_list=one_list)
    image = contents(made.rootfs)
    with runtime.started(made) as container:
        attach(container)
        assert entries(host)
    assert interpreters() == []
    assert difference(image, contents(made.rootfs)) == []
    assert (entries(host), leases(host)) == ([], [])


def test_what_was_attached_besides(runtime, bundle, host, interpreters, attach):
    made = bundle(args=("/bin/sleep", "100"), gpus="0")
    image = contents(made.rootfs)
    with runtime.started(made) as container:
        attach(container)
    assert interpreters() == ["prestart"]
    assert difference(image, contents(made.rootfs)) == []
    assert (entries(host), leases(host)) == ([], [])


def test_two_containers_on_one_rootfs(runtime, bundle, host, interpreters):
    """What the first one to end has made goes with the last."""
    one, other = (bundle(args=("/bin/sleep", "100"), gpus="0", name=name) for name in ("one", "other"))
    image = contents(one.rootfs)
    shutil.rmtree(other.rootfs)
    other.config["root"]["path"] = str(one.rootfs)
    with runtime.started(one):
        with runtime.started(other):
            pass
        assert interpreters() == ["prestart", "prestart", "poststop"]
        assert len(entries(host)) == 2
    assert difference(image, contents(one.rootfs)) == []
    assert (entries(host), leases(host)) == ([], [])


def test_a_hook_that_python_stands_for_alone(runtime, make_bundle, host, attach):
    """Without the front the container's end is the same, and so is what is attached to it."""
    made = make_bundle(args=("/bin/sleep", "100"), gpus=None, config=host.config)
    stub = Path(made.config["hooks"]["poststop"][0]["path"]).with_name("oci-gpu-hook.py")
    for found in made.config["hooks"].values():
        for entry in found:
            entry["args"] = [sys.executable, "-ISB", str(stub), *entry["args"][1:-1], "prestart"]
            entry["path"] = os.path.realpath(sys.executable)
    image = contents(made.rootfs)
    with runtime.started(made) as container:
        attach(container)
        assert entries(host)
    assert difference(image, contents(made.rootfs)) == []
    assert (entries(host), leases(host)) == ([], [])
