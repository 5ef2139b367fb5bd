"""A Podman that is told to read hooks elsewhere (hooks_dir of containers.conf): the installer follows it there."""

from __future__ import annotations

import pytest

from tests.engines.test_podman import assert_reaches, reach

DIRECTORY = "/etc/containers/oci/hooks.d"


@pytest.fixture
def elsewhere(engines):
    """Tell every Podman of the machine, by a drop-in, to read hooks from another directory."""
    engines.path(DIRECTORY).mkdir(parents=True)
    drop_in = "/etc/containers/containers.conf.d/50-hooks.conf"
    engines.write(drop_in, f'[engine]\nhooks_dir = ["{DIRECTORY}"]\n')
    yield
    engines.path(drop_in).unlink()
    for file in engines.path(DIRECTORY).iterdir():
        file.unlink()
    engines.path(DIRECTORY).rmdir()


def test_the_hook_is_called_from_there_once_it_is_installed(podman, elsewhere, simulated):
    asks = ("-e", "NVIDIA_VISIBLE_DEVICES=1")
    seen = podman.run(*asks, probe=("list=/dev",)).seen()
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]
    podman.engines.oci_gpu("install", "podman", "--directory", podman.engines.libexec)
    assert_reaches(podman.run(*asks, probe=tuple(reach(simulated))).seen(), simulated, (1,))
