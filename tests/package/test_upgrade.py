"""An upgrade from the Debian package of an older version, built from the history, under running containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.root

# Before the rooms that the package is divided into now: another layout of modules, of the state directory's files too.
OLDER = "886e4364c16ea264f227b524300e4f80e4b7d2b3"
SLEEPER = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
HOOK = "/usr/libexec/oci-gpu-hook/oci-gpu-hook"


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """Return the Debian package of the older version."""
    if subprocess.run(["git", "cat-file", "-e", OLDER], cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("the history of this checkout does not go back that far")
    source, output = tmp_path_factory.mktemp("older"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(["git", "archive", OLDER], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", source], input=archive, check=True)
    (source / ".venv").symlink_to(ROOT / ".venv")
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([source / "package/deb.sh", output], env=environment, check=True, capture_output=True)
    return next(output.glob("*.deb"))


@pytest.fixture(scope="module")
def machine(fresh, package, older):
    for kernel in ("sys", "dev"):
        (fresh.root / kernel).mkdir(exist_ok=True)
        subprocess.run(["mount", "--rbind", f"/{kernel}", fresh.root / kernel], check=True)
        subprocess.run(["mount", "--make-rslave", fresh.root / kernel], check=True)
    shutil.copy(older, fresh.root / "tmp/older.deb")
    shutil.copy(package, fresh.root / "tmp/package.deb")
    fresh.run("dpkg", "--install", "/tmp/older.deb")
    fresh.run("oci-gpu", "simulate", "/srv/host", "--gpus", "2")
    shutil.copy(fresh.root / "srv/host/config.toml", fresh.root / "etc/oci-gpu-hook/config.toml")
    (fresh.root / "tmp/sleeper.c").write_text(SLEEPER)
    fresh.run("gcc", "-static", "-o", "/srv/sleeper", "/tmp/sleeper.c")
    return fresh


@pytest.fixture
def start(machine):
    """A function that starts a container with a GPU and returns its pid; all are removed at the end."""
    started = []

    def run(name: str, gpu: str) -> int:
        bundle = machine.root / "srv" / name
        bundle.mkdir()
        machine.run("runc", "spec", "--bundle", f"/srv/{name}")
        for directory in ("dev", "proc", "sys", "usr/bin", "usr/lib", "etc"):
            (bundle / "rootfs" / directory).mkdir(parents=True)
        shutil.copy(machine.root / "srv/sleeper", bundle / "rootfs/sleeper")
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["/sleeper"])
        config["process"]["env"] = [f"NVIDIA_VISIBLE_DEVICES={gpu}", "NVIDIA_DRIVER_CAPABILITIES=utility"]
        config["root"]["readonly"] = False
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
        config["hooks"] = {"prestart": [{"path": HOOK, "args": ["oci-gpu-hook", "prestart"], "env": ["PATH=/usr/bin"]}]}
        (bundle / "config.json").write_text(json.dumps(config))
        started.append(name)
        machine.run(
            "/bin/sh", "-c", f"runc run --detach --bundle /srv/{name} {name} </dev/null >/dev/null 2>/srv/{name}.said"
        )
        return int(json.loads(machine.run("runc", "state", name).stdout)["pid"])

    yield run
    for name in started:
        machine.run("runc", "delete", "--force", name, check=False)


def nodes(pid: int) -> set[str]:
    return {name for name in os.listdir(f"/proc/{pid}/root/dev") if name.startswith("nvidia") and name[6:].isdigit()}


def holders(machine) -> dict[str, list[int]]:
    leases = json.loads(machine.run("oci-gpu", "leases", "--json").stdout)
    return {lease["container"]: lease["gpus"] for lease in leases}


def test_containers_of_the_older_version_live_on(machine, start):
    pid = start("old", "0")
    assert nodes(pid) == {"nvidia0"}
    held = holders(machine)
    machine.run("dpkg", "--install", "/tmp/package.deb")
    assert machine.run("oci-gpu", "help", "OGH1303").stdout, "the new version is installed"
    assert nodes(pid) == {"nvidia0"}
    assert holders(machine) == held
    assert machine.run("oci-gpu", "verify", "old", check=False).returncode == 0
    assert nodes(start("new", "1")) == {"nvidia1"}
    assert {*holders(machine)} == {"old", "new"}
    for name in ("old", "new"):
        machine.run("runc", "delete", "--force", name)
    assert holders(machine) == {}
