"""`oci-gpu plan` and a start agree: on whether a container starts, on the line it is refused with, on what it gets.

Bundles are random, of a seed: mounts of config.json where the driver goes, images that lead there by links or have
something in the way. Nothing of this is worked out twice by the test; plan and start are only compared.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime import rootfs as images

LIBRARIES = images.LIBRARY_DIRECTORY["debian"]
SEEDS = range(40)
# Where the driver goes, and above and below it. A destination that ends in a file name is a file.
DIRECTORIES = (
    *("/run", "/var/run", "/var", "/tmp", "/etc", "/etc/OpenCL", "/etc/vulkan", "/etc/nvidia", "/lib/firmware"),
    *("/usr/lib/firmware", "/usr/bin", "/usr/share", "/usr/lib", f"/{LIBRARIES}", f"/{LIBRARIES}/vdpau", "/usr/local"),
    *("/usr/local/nvidia", "/usr/local/nvidia/lib64", "/dev/dri", "/dev/nvidia-caps", "/data", "/opt/deep/er"),
    *("/run/nvidia-persistenced", "/usr/local/cuda/compat", "/link", "/dangling", "/home/x/../../usr/bin", "/run/"),
)
FILES = ("/usr/bin/nvidia-smi", f"/{LIBRARIES}/libcuda.so.1", "/etc/ld.so.cache", "/dev/nvidia0", "/etc/hosts")
LINKS = {
    "usr/bin": ("/data", "../run", "/nowhere"),
    "etc/vulkan": ("/data", "/run/vulkan", "loop"),
    "etc/nvidia": ("/tmp", "/data/x"),
    "run": ("/data", "etc"),
    "lib/firmware": ("/data", "/opt"),
    f"{LIBRARIES}/vdpau": ("/data", "/"),
    "var/run": ("/run", "../run", "/nowhere"),
    "link": ("/run", "/usr/bin", "/../../tmp"),
    "dangling": ("usr/made", "/var/made"),
    "usr/local/nvidia": ("/data", "/opt"),
}
IN_THE_WAY = (
    *("usr/bin/nvidia-smi", f"{LIBRARIES}/libcuda.so.1", "etc/ld.so.cache", "etc/OpenCL", "var/run", "usr/share/glvnd"),
    *("etc/nvidia", "lib/firmware/nvidia", f"{LIBRARIES}/vdpau"),
)
CAPABILITIES = ("utility", "compute,utility", "graphics,utility", "all", "compute,video")


def volume(dice, directory: Path) -> Path:
    """Return a directory of the host, with some of what keeps the driver from having a place in it, or gives it one."""
    path = directory / f"volume-{len(list(directory.iterdir()))}"
    path.mkdir()
    wanted = ("nvidia-smi", "libcuda.so.1", "nvidia-persistenced", "vulkan/icd.d", "nvidia", "OpenCL", "ld.so.cache")
    for name in dice.sample(wanted, dice.randint(0, 3)):
        kind = dice.choice(("file", "directory", "link"))
        at = path / name
        if at.parent != path:
            at.parent.mkdir()
        {"file": at.touch, "directory": at.mkdir, "link": lambda at=at: at.symlink_to("x")}[kind]()
    return path


def mount(dice, directory: Path) -> dict:
    options = [option for option in ("ro", "nosuid") if dice.random() < 0.25]
    if dice.random() < 0.15:
        source = volume(dice, directory) / "file"
        source.touch()
        destination = dice.choice(FILES)
        options += ["rbind", "rprivate"]  # what is not said, runtimes take for one thing or the other
        return {"destination": destination, "type": "bind", "source": str(source), "options": options}
    destination = dice.choice(DIRECTORIES)
    if dice.random() < 0.3:
        options += ["tmpcopyup"] if dice.random() < 0.3 else []
        return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}
    propagation = dice.choice(("rprivate", "rprivate", "rslave", "rshared"))
    kind, shown = dice.choice(("bind", "none", "")), str(volume(dice, directory))
    return {"destination": destination, "type": kind, "source": shown, "options": ["rbind", propagation, *options]}


def change(dice, rootfs: Path) -> None:
    """Lay links and other things in the way of the driver."""
    for name in dice.sample(sorted(LINKS), dice.randint(0, 2)):
        at = rootfs / name
        if at.is_symlink() or not at.parent.is_dir():
            continue
        if at.is_dir():
            at.rename(rootfs / f"was-{len(os.listdir(rootfs))}")
        at.symlink_to(dice.choice(LINKS[name]))
    if dice.random() < 0.3:
        at = rootfs / dice.choice(IN_THE_WAY)
        if not os.path.lexists(at) and at.parent.is_dir():
            {"file": at.touch, "directory": at.mkdir, "fifo": lambda: os.mkfifo(at)}[
                dice.choice(("file", "directory", "fifo"))
            ]()


def planned(simulated, bundle, *options: str):
    command = [
        Path(sys.executable).with_name("oci-gpu"),
        "--config",
        simulated.config,
        "plan",
        bundle.directory,
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def given(simulated, container) -> dict:
    """Return what the journal says that a container was given."""
    (path,) = (simulated.state_dir / "containers").glob(f"{container.id}~*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("seed", SEEDS)
def test_plan_and_start_agree(runtime, make_bundle, simulated, machine, directory, seed):
    dice = random.Random(seed)
    (directory / "volumes").mkdir()
    # Some bundles no runtime starts, whatever the hook does: a file's place that is a directory. Those say nothing.
    assert any(compared(runtime, simulated, drawn(dice, make_bundle, directory, f"bundle-{draw}")) for draw in range(9))


def drawn(dice, make_bundle, directory: Path, name: str):
    bundle = make_bundle(
        name=name,
        args=("/probe", "list=/"),
        image=dice.choice(("debian", "debian", "rhel", "no-cache", "musl")),
        mounts=tuple(mount(dice, directory / "volumes") for _ in range(dice.randint(1, 3))),
        env=(
            f"NVIDIA_VISIBLE_DEVICES={dice.choice(('all', '0'))}",
            f"NVIDIA_DRIVER_CAPABILITIES={dice.choice(CAPABILITIES)}",
            *(["OCI_GPU_VOLUME=1"] if dice.random() < 0.2 else []),
        ),
        readonly=dice.random() < 0.2,
        user_namespace=dice.random() < 0.15,
    )
    change(dice, bundle.rootfs)
    bundle.write()
    return bundle


def compared(runtime, simulated, bundle) -> bool:
    """Compare plan and start; tell whether the hook was run, so that there was something to compare."""
    plan = planned(simulated, bundle)
    assert "Traceback" not in plan.stderr, plan.stderr
    as_json = planned(simulated, bundle, "--json")
    assert (plan.returncode, as_json.returncode) in ((0, 0), (1, 1)), (plan, as_json)
    said = f"{json.dumps(bundle.config['mounts'][5:])}\n{plan.stdout}{plan.stderr}"
    name = runtime._register(bundle)
    try:
        result = runtime._call("create", "--bundle", bundle.directory, name)
        if (hooks := bundle.directory / "hooks-stderr").exists():
            result = replace(result, stderr=result.stderr + hooks.read_text())
        if "oci-gpu-hook: error" not in result.stderr and result.status != 0:
            return False
        assert (plan.returncode == 0) == (result.status == 0), f"{said}\n{result.stderr}"
        if result.status:
            line = result.complaint()
            assert f"  oci-gpu-hook: error: {line}" in plan.stdout.splitlines(), f"{said}\n{line}"
        else:
            container = type("Container", (), {"id": name})
            agree(json.loads(as_json.stdout), given(simulated, container), said)
        return True
    finally:
        runtime._remove(name)


def agree(plan: dict, entry: dict, said: str) -> None:
    edits = plan["containerEdits"]
    assert sorted(mount["containerPath"] for mount in edits.get("mounts", [])) == sorted(entry["mounts"]), said
    assert [node["path"] for node in edits["deviceNodes"]] == entry["nodePaths"], said
    made = {path: target for kind, path, target, *_ in entry["changes"] if kind == "link" and target}
    assert made.items() <= {link["path"]: link["target"] for link in plan["links"]}.items(), said
