"""The script that the DaemonSet of package/kubernetes runs, on a node with containerd: a root directory of Debian.

Two programs are stand-ins: nsenter, which the node is entered by with chroot, and the node's systemctl, which keeps the
time of containerd's last start in a file and writes down what it was asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from tests.package.conftest import ROOT

pytestmark = pytest.mark.root

SCRIPT = ROOT / "package/kubernetes/install-on-node.sh"
CONFIG = "etc/containerd/config.toml"
STARTED = "run/containerd-started"
SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>/run/asked
case $1 in
restart) touch /{STARTED} ;;
show) date --reference=/{STARTED} ;;
esac
"""


@pytest.fixture(scope="module")
def node(fresh, package, tmp_path_factory):
    """Run the script with arguments; return what the node's systemctl was asked to change."""
    shutil.copy(shutil.which("containerd") or pytest.skip("not installed: containerd"), fresh.root / "usr/bin")
    systemctl = fresh.root / "usr/bin/systemctl"
    kept = systemctl.read_bytes() if systemctl.exists() else None
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    (fresh.root / STARTED).touch()
    os.utime(fresh.root / STARTED, (time.time() - 60,) * 2)
    programs = tmp_path_factory.mktemp("programs")
    stand_in = programs / "nsenter"
    stand_in.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "--target 1" ] || exit 9\n'
        f'while [ "$1" != -- ]; do shift; done\nshift\nexec chroot {fresh.root} "$@"\n'
    )
    stand_in.chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

    def run(*arguments: object) -> list[str]:
        asked = fresh.root / "run/asked"
        asked.unlink(missing_ok=True)
        done = subprocess.run(
            [SCRIPT, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [line for line in asked.read_text().splitlines() if not line.startswith("show")]

    yield run
    if kept is not None:
        systemctl.write_bytes(kept)


RESTARTED = ["restart containerd.service"]


def test_a_node_is_made_ready_once_and_given_back(node, fresh, package):
    asked = node(package)
    assert asked[-1:] == RESTARTED
    handler = (fresh.root / CONFIG).read_text()
    assert 'BinaryName = "/usr/libexec/oci-gpu-hook/oci-gpu-runtime"' in handler
    assert not (fresh.root / "run/oci-gpu-hook.deb").exists()
    time.sleep(1.1)  # times of starts are whole seconds
    (fresh.root / STARTED).touch()
    assert node(package) == []
    assert (fresh.root / CONFIG).read_text() == handler
    assert node("--uninstall")[:1] == RESTARTED
    assert "oci-gpu" not in ((fresh.root / CONFIG).read_text() if (fresh.root / CONFIG).exists() else "")
    assert not (fresh.root / "usr/lib/oci-gpu-hook").exists()


def test_containerd_is_restarted_where_an_earlier_run_was_ended_before_that(node, fresh, package):
    node(package)
    os.utime(fresh.root / STARTED, (time.time() - 60,) * 2)
    assert node(package) == RESTARTED
