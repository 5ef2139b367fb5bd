"""`oci-gpu install slurm`: what is not ours in Slurm's files stays, to the byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.engines import slurm, slurm_files
from oci_gpu_hook.admin.install import executables
from oci_gpu_hook.devices.edits import DeviceNode
from oci_gpu_hook.devices.model import Device
from tests.runtime.fixtures import oci_gpu as command
from tests.unit.admin.engines.conftest import put, tree

SLURM = "/usr/libexec/oci-gpu-hook/oci-gpu-slurm"
OCI_CONF = {
    "absent": None,
    "empty": "",
    "others": 'EnvExclude="^(SLURM_CONF|SLURM_CONF_SERVER)="\n# mine\nContainerPath=/spool/%j',
    "runc": 'RunTimeQuery="runc state %n.%u.%j"\nruntimekill = "runc kill %j"\nRunTimeDelete="runc delete %j"\n'
    '\tRunTimeRun="runc run %n.%u.%j -b %b" # rootless\nFileDebug=debug\n',
    "create": 'RunTimeCreate="crun create"\nRunTimeStart="crun start"\n',
}


@pytest.fixture
def node(root):
    put(root, "/usr/sbin/slurmd", "#!/bin/sh\n", 0o755)
    put(root, "/etc/slurm/slurm.conf", "ClusterName=x\n")
    put(root, SLURM, "#!/bin/sh\n", 0o755)
    return root


@pytest.mark.parametrize("name", OCI_CONF)
def test_oci_conf_goes_in_and_out(node, oci_gpu, name):
    text = OCI_CONF[name]
    if text is not None:
        put(node, "/etc/slurm/oci.conf", text, 0o640)
    before = tree(node)
    status, said, _ = oci_gpu("install", "slurm")
    assert status == 0
    assert "ConstrainDevices=yes" in said
    made = (node / "etc/slurm/oci.conf").read_text()
    assert f"RunTimeRun=\"'{SLURM}' run '%u' %n.%j.%s.%t '%b'\"\n" in made
    assert made.lower().count("runtimerun=") == 1
    assert "runc " not in made
    assert "crun " not in made
    for line in (text or "").splitlines():
        assert "untime" in line.lower() or line in made
    once = tree(node)
    assert "Nothing to change" in oci_gpu("install", "slurm")[1]
    assert tree(node) == once
    assert oci_gpu("uninstall", "slurm")[0] == 0
    assert tree(node) == before


def test_what_was_edited_since_stays(node, oci_gpu):
    file = put(node, "/etc/slurm/oci.conf", "FileDebug=debug\n")
    oci_gpu("install", "slurm")
    file.write_text("StdIODebug=debug2\n" + file.read_text())
    said = oci_gpu("uninstall", "slurm")[1]
    assert "was edited since the installation" in said
    assert file.read_text() == "StdIODebug=debug2\nFileDebug=debug\n"


def test_half_a_block(node, oci_gpu):
    file = put(node, "/etc/slurm/oci.conf", "")
    oci_gpu("install", "slurm")
    file.write_text(file.read_text().rpartition("# END")[0])
    before = tree(node)
    status, _, complaint = oci_gpu("install", "slurm")
    assert (status, tree(node)) == (1, before)
    assert "has a damaged block of oci-gpu-hook" in complaint


def test_where_slurm_is_not(root, oci_gpu):
    before = tree(root)
    assert "slurmd: is not installed" in oci_gpu("install", "slurm")[2]
    put(root, "/usr/sbin/slurmd", "#!/bin/sh\n", 0o755)
    status, _, complaint = oci_gpu("install", "slurm")
    assert status == 1
    assert "/etc/slurm': is not a directory; name slurm.conf where it is: --file FILE" in complaint
    (root / "usr/sbin/slurmd").unlink()
    assert tree(root) == before
    assert slurm.check(str(root)) == []


def test_slurm_conf_elsewhere(node, oci_gpu):
    put(node, "/opt/slurm/etc/slurm.conf", "")
    assert oci_gpu("install", "slurm", "--file", "/opt/slurm/etc/slurm.conf")[0] == 0
    assert (node / "opt/slurm/etc/oci.conf").exists()
    assert not (node / "etc/slurm/oci.conf").exists()


def test_what_is_left_to_do_is_what_is_missing(node, oci_gpu):
    put(
        node,
        "/etc/slurm/slurm.conf",
        "GresTypes=gpu,mps\nProctrackType=proctrack/cgroup\nTASKPLUGIN=task/affinity,task/cgroup\n"
        "SelectType=select/cons_tres\n",
    )
    put(node, "/etc/slurm/cgroup.conf", "ConstrainDevices=yes\n")
    said = oci_gpu("install", "slurm")[1]
    assert "in slurm.conf" not in said
    assert "in cgroup.conf" not in said


def test_the_doctor(node, oci_gpu):
    (found,) = slurm.check(str(node))
    assert (found.ok, found.text) == (False, "Slurm is not set up to start containers (srun --container)")
    put(node, "/etc/slurm/oci.conf", 'RunTimeRun="runc run %j"\n')
    assert slurm.check(str(node))[0].text == "Slurm starts containers by 'runc', which gives them no GPUs"
    oci_gpu("install", "slurm")
    good, bad = slurm.check(str(node))
    assert (good.ok, bad.ok) == (True, False)
    assert "does not constrain devices" in bad.text
    put(node, "/etc/slurm/cgroup.conf", "ConstrainDevices=yes\n")
    assert [each.ok for each in slurm.check(str(node))] == [True]
    (node / SLURM[1:]).unlink()
    assert [each.text for each in slurm.check(str(node))] == [f"Slurm's '{SLURM}' cannot be run"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", False),
        ("# Name=gpu\n", False),
        ("Name=mps Count=100\n", False),
        ("NodeName=n name=GPU File=/dev/nvidia0\n", True),
        ("AutoDetect=nvml\n", True),
        ("AutoDetect=off\n", False),
    ],
)
def test_gres_conf_with_gpus_of_others(text, answer):
    assert slurm_files.has_gpus(text) is answer


def test_lines_of_gres_conf():
    def device(index, **fields):
        return Device(kind="nvidia.com/gpu", name="", uuid=f"GPU-{index}", index=index, label="", **fields)

    def nodes(*paths):
        return [DeviceNode(path=path, host_path=f"/x{path}") for path in paths]

    lines = slurm_files.gres_lines(
        "n1",
        [
            (device(0), nodes("/dev/nvidia3")),
            (device(1, whole="GPU-W", profile="1g.10gb"), nodes("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21")),
            (device(2), nodes("/dev/nvidia1")),
        ],
        {"GPU-0": "NVIDIA H100 80GB HBM3", "GPU-W": "NVIDIA A100"},
    )
    assert lines == [
        "NodeName=n1 Name=gpu Type=nvidia_h100_80gb_hbm3 File=/x/dev/nvidia3",
        "NodeName=n1 Name=gpu Type=nvidia_a100_1g.10gb MultipleFiles=/x/dev/nvidia0,/x/dev/nvidia-caps/nvidia-cap21",
        "NodeName=n1 Name=gpu File=/x/dev/nvidia1",
    ]
    assert slurm_files.counts(lines) == "gpu:nvidia_h100_80gb_hbm3:1,gpu:nvidia_a100_1g.10gb:1,gpu:1"


@pytest.mark.root
def test_gpus_of_this_host(tmp_path, monkeypatch, capsys):
    """Two nodes share one gres.conf; what is written is in the order of indices, whatever the minors."""
    command("simulate", tmp_path / "host", "--gpus", "2")
    (tmp_path / "slurm.conf").touch()
    config = str(tmp_path / "host/config.toml")
    monkeypatch.setattr("oci_gpu_hook.admin.cli.install.DEFAULT_PATH", config)  # this host's configuration
    monkeypatch.setattr("oci_gpu_hook.admin.cli.install.executables.write", lambda *_: type("E", (), {"warnings": ()}))
    monkeypatch.setattr("oci_gpu_hook.admin.cli.install.executables.write_slurm", lambda *_: "")

    def run(what: str, name: str) -> str:
        monkeypatch.setattr(slurm, "_node_name", lambda: name)
        options = ("--file", str(tmp_path / "slurm.conf"), "--directory", "/x")
        assert main.main(["--config", config, what, "slurm", *options]) == 0
        return capsys.readouterr().out

    assert "NodeName=one Gres=gpu:nvidia_h100_80gb_hbm3:2" in run("install", "one")
    run("install", "two")
    lines = [line for line in (tmp_path / "gres.conf").read_text().splitlines() if "File=" in line]
    assert [line.split()[0] for line in lines] == ["NodeName=one"] * 2 + ["NodeName=two"] * 2
    assert "Nothing to change" in run("install", "one")
    run("uninstall", "one")
    assert "NodeName=one" not in (tmp_path / "gres.conf").read_text()
    run("uninstall", "two")
    assert "NodeName" not in (tmp_path / "gres.conf").read_text()


def test_once_it_is_there_hook_path_keeps_it_up_to_date(tmp_path):
    def write(runtime: str) -> None:
        executables.write(str(tmp_path), runtime)

    runtimes = [put(tmp_path, f"/{name}", "#!/bin/sh\n", 0o755) for name in ("one", "two")]
    write(str(runtimes[0]))
    assert not (tmp_path / "oci-gpu-slurm").exists()
    laid = Path(executables.write_slurm(str(tmp_path), str(runtimes[0])))
    assert str(runtimes[0]) in laid.read_text()
    assert os.access(slurm_files.interpreter_of(str(laid)), os.X_OK)
    write(str(runtimes[1]))
    assert str(runtimes[1]) in laid.read_text()
