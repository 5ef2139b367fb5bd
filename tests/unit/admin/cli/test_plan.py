"""`oci-gpu plan` and `info` in words, on a simulated host: every line that an operator relies on."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import main as cli
from oci_gpu_hook.admin.cli import picture
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.doctor import tiny
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.devices.nvidia.model import Gpu
from tests.paths import SCHEMAS

OCI_GPU = Path(sys.executable).with_name("oci-gpu")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return make(str(tmp_path_factory.mktemp("gpu") / "host"), gpus=4, device_nodes=os.geteuid() == 0)


@pytest.fixture
def plan(host, tmp_path, capsys):
    if os.geteuid() != 0:
        pytest.skip("needs root (device nodes of the simulated host)")

    def run(*env, options=(), annotations=None, config=""):
        (tmp_path / "rootfs/etc").mkdir(parents=True, exist_ok=True)
        (tmp_path / "rootfs/etc/debian_version").write_text("12\n")
        bundle = json.loads(tiny.config_json("true", "/hook", "/config", env))
        (tmp_path / "config.json").write_text(json.dumps({**bundle, "annotations": annotations or {}}))
        configuration = host.config
        if config:
            configuration = tmp_path / "config.toml"
            configuration.write_text(Path(host.config).read_text() + config)
        status = cli.main(["--config", str(configuration), "plan", str(tmp_path), *options])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out, said.err

    return run


def test_a_plan_says_what_is_asked_for_and_where(plan):
    status, out, _ = plan("NVIDIA_VISIBLE_DEVICES=1", "NVIDIA_DRIVER_CAPABILITIES=utility", "NVIDIA_REQUIRE_X=cuda>=9")
    assert status == 0
    assert "  GPUs:                 1\n" in out
    assert "  in config.json:       process.env: NVIDIA_VISIBLE_DEVICES='1'\n" in out
    assert "                        process.env: NVIDIA_REQUIRE_X='cuda>=9'\n" in out


def test_a_plan_says_which_gpu_and_why(plan, host):
    _, out, _ = plan("NVIDIA_VISIBLE_DEVICES=1")
    assert f"  GPU 1  NVIDIA H100 80GB HBM3  80 GiB  {host.gpus[1].uuid}\n" in out.replace(
        "HBM3  GPU", "HBM3  80 GiB  GPU"
    )
    assert "    asked for by name; held by nobody else\n" in out
    assert "  /dev/nvidia1           195:1    GPU 1\n" in out


def test_a_plan_by_count_says_how_many_there_were_and_how_near_they_are(plan):
    _, out, _ = plan("OCI_GPU_COUNT=2", "OCI_GPU_MEMORY=40GiB")
    assert "4 of 4 available on this host with 40 GiB or more; the fewest holders come first" in out
    assert "of equal ones, those nearest to each other: 0-1 NV18" in out


def test_a_plan_says_what_is_mounted_for_what_and_what_is_not_and_why(plan):
    _, out, _ = plan("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute")
    mounted = out.partition("Mounted from the host")[2].partition("Not given")[0]
    assert "  compute  " in mounted
    assert "utility" not in mounted
    assert "libraries go to /usr/lib/x86_64-linux-gnu" in mounted
    skipped = out.partition("Not given")[2]
    assert "of utility" in skipped
    assert "would come with utility in NVIDIA_DRIVER_CAPABILITIES" in skipped
    assert "GPU 1, 2, 3  " in skipped


def test_policy_is_named_where_it_is_the_reason(plan):
    _, out, _ = plan(
        "NVIDIA_VISIBLE_DEVICES=0", config='[request]\nsupported-driver-capabilities = "compute,utility"\n'
    )
    assert "not in supported-driver-capabilities of config.toml" in out


def test_files_are_listed_on_demand(plan):
    _, brief, _ = plan("NVIDIA_VISIBLE_DEVICES=0")
    _, full, _ = plan("NVIDIA_VISIBLE_DEVICES=0", options=["--files"])
    assert "/usr/lib/x86_64-linux-gnu/libcuda.so.580" not in brief
    assert "  /usr/lib/x86_64-linux-gnu/libcuda.so.580" in full
    assert "libcuda.so.1  " in full


def test_a_failure_is_the_very_line_that_the_engine_is_told(plan):
    status, out, err = plan("NVIDIA_VISIBLE_DEVICES=9")
    assert (status, err) == (1, "")
    (line,) = (line for line in out.splitlines() if "oci-gpu-hook: error:" in line)
    assert line.startswith("  oci-gpu-hook: error: unknown device '9': this host has GPU 0")
    assert line.endswith("name one of these or 'all' [OGH1201]")
    assert "process.env: NVIDIA_VISIBLE_DEVICES='9'" in out


def test_a_failure_as_json_is_an_error(plan):
    status, out, err = plan("NVIDIA_VISIBLE_DEVICES=9", options=["--json"])
    assert status == 1
    document = json.loads(out)
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / "error.schema.json").read_text())).validate(document)
    error = document["error"]
    assert (error["code"], error["what"]) == ("OGH1201", "unknown device '9'")
    assert err == f"oci-gpu: error: {error['what']}: {error['why']}; {error['remedy']} [OGH1201]\n"


@pytest.mark.parametrize(
    ("variable", "words"),
    [("OCI_GPU_COUNT=many", "OCI_GPU_COUNT='many'"), ("NVIDIA_DRIVER_CAPABILITIES=bogus", "bogus")],
)
def test_words_that_cannot_be_served_fail_as_the_container_would(plan, variable, words):
    variables = [variable] if "COUNT" in variable else ["NVIDIA_VISIBLE_DEVICES=0", variable]
    status, out, _ = plan(*variables)
    assert status == 1
    assert words in out.partition("oci-gpu-hook: error:")[2]


def test_a_broken_configuration_fails_only_who_asks(plan):
    broken = "\n[log]\nlevel = 3\n"
    status, out, _ = plan("NVIDIA_VISIBLE_DEVICES=0", config=broken)
    assert status == 1
    assert "oci-gpu-hook: error: " in out
    assert "(line " in out
    status, out, _ = plan("FOO=1", config=broken)
    assert status == 0
    assert out.startswith("The container asks for no GPU; the hook would leave it as it is.\n")
    assert "level" in out


def test_what_was_meant_as_a_request_is_shown(plan):
    _, out, _ = plan("NVIDIA_DRIVER_CAPABILITIES=all")
    assert "process.env: NVIDIA_DRIVER_CAPABILITIES='all'" in out


def test_text_of_an_image_cannot_command_the_terminal(plan):
    _, out, _ = plan(
        "NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_X=\x1b]0;hacked\x07", annotations={"io.oci-gpu-hook.x\n": "\x1b[2J"}
    )
    assert "\x1b" not in out
    assert "\x07" not in out


def on_a_terminal(*arguments, columns):
    """Return what a command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen([OCI_GPU, *arguments], stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    data = b""
    try:
        while chunk := os.read(ours, 65536):
            data += chunk
    except OSError:  # EIO: the other end is closed
        pass
    child.wait(timeout=60)
    os.close(ours)
    return data.decode()


def plain(text):
    import re

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_info_fits_the_terminal_and_cuts_no_uuid(host, columns):
    said = on_a_terminal("--config", host.config, "info", columns=columns)
    assert "\x1b[1m" in said
    lines = plain(said)
    assert max(map(len, lines)) <= columns
    for gpu in host.gpus:
        assert any(gpu.uuid in line for line in lines)


def test_info_in_a_pipe_is_plain(host, capsys):
    assert cli.main(["--config", host.config, "info"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "NVIDIA driver 580.159.04, CUDA 13.0, 4 GPUs\n" in out
    assert "GPU 0  self  NV18  SYS   SYS\n" in out


def test_info_lists_files_with_what_brings_them(host, capsys):
    assert cli.main(["--config", host.config, "info", "--files"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["compute/video", "library"] in [row[:2] for row in rows if "/libcuda.so.580" in row[2]]
    assert all(os.path.exists(row[2]) for row in rows)


def test_info_shows_the_half_that_is_there(tmp_path, capsys):
    broken = make(str(tmp_path / "host"), gpus=1, device_nodes=False, kernel_driver_version="570.1.2")
    assert cli.main(["--config", broken.config, "info"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("NVIDIA kernel driver 570.1.2\n  GPU 0: NVIDIA H100 80GB HBM3")
    assert said.err.startswith("oci-gpu: error: NVIDIA driver and its libraries differ")


def gpu(index, **fields):
    return Gpu(index=index, uuid=f"GPU-{index}", minor=index, bus_id=f"00000000:0{index}:00.0", **fields)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"links": ((1, 4),)}, {}, "NV4"),
        ({"pcie_switch": "x"}, {"pcie_switch": "x"}, "PIX"),
        ({"numa_node": 0}, {"numa_node": 0}, "NODE"),
        ({"numa_node": 0}, {"numa_node": 1}, "SYS"),
        ({}, {"numa_node": 1}, ""),
    ],
)
def test_how_near_two_gpus_are(one, other, words):
    assert picture.relation(gpu(0, **one), gpu(1, **other)) == words


def test_an_unexpected_error_is_one_line_unless_asked(monkeypatch, capsys, tmp_path):
    from oci_gpu_hook.admin.cli import plan

    def broken(_options):
        raise ZeroDivisionError("by zero\x1b")

    monkeypatch.setattr(plan, "run", broken)
    assert cli.main(["plan", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("oci-gpu: error: internal error: ZeroDivisionError: by zero\\x1b; please report")
    assert err.count("\n") == 1
    assert cli.main(["--debug", "plan", str(tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_only_the_chosen_command_is_imported():
    program = (
        "import sys; from oci_gpu_hook.admin.cli.main import main\n"
        "try: main(['hook-path', '--help'])\nexcept SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('oci_gpu_hook.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {name for name in done.stderr.split() if ".cli." in name}
    own = ("main", "commands", "usual", "option", "arguments", "overview", "examples", "hook_path")
    assert imported == {f"oci_gpu_hook.admin.cli.{name}" for name in own}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert "examples:\n  " in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_ends_it_quietly(host):
    command = f"{OCI_GPU} --config {host.config} info --json | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_who_shares_a_gpu_is_named_where_it_can_be_known():
    from oci_gpu_hook.admin.cli import explain
    from oci_gpu_hook.allocation.holders import Processes
    from oci_gpu_hook.allocation.model import Lease, LeasedDevice
    from oci_gpu_hook.devices.nvidia import devices
    from oci_gpu_hook.request.model import Request

    host = devices.of((gpu(0, name="H100"),))
    asked = Request(devices=("0",), driver_capabilities=(), source="environment")
    holder = Processes().holder(0)
    assert holder
    lease = Lease(container="db\n", devices=(LeasedDevice(whole="GPU-0"),), holder=holder, exclusive=False, since="")
    for held, words in (((lease,), "held by 'db\\n' too"), ((), "held by nobody else"), (None, "only root can see")):
        assert words in list(explain.gpus(asked, host, host, held))[1]
