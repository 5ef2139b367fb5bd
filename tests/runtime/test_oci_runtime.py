"""oci-gpu-runtime before runc and crun: bundles that nobody registered a hook in."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest

from tests.runtime.fixtures import HOOK_ENVIRONMENT, oci_gpu
from tests.runtime.test_devices import assert_reaches, reach

COUNT = {"io.oci-gpu-hook.count": "1"}


def written(bundle) -> dict:
    return json.loads((bundle.directory / "config.json").read_bytes())


def granted_rules(config: dict) -> set:
    rules = config["linux"]["resources"]["devices"]
    return {(rule["major"], rule["minor"], rule["access"]) for rule in rules if rule.get("major") == 195}


def leases(simulated) -> list[dict]:
    found = simulated.state_dir / "leases.json"
    return json.loads(found.read_text())["leases"] if found.exists() else []


def test_a_container_gets_its_gpu_and_no_other(front, plain_bundle, simulated):
    bundle = plain_bundle(*reach(simulated), "dlopen=libcuda.so.1", gpus="0")
    seen = front.run(bundle).seen()
    assert_reaches(seen, simulated, (0,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_the_runtime_owns_nodes_and_rules(front, plain_bundle, simulated):
    bundle = plain_bundle(gpus="1", args=("/bin/true",))
    front.run(bundle).seen()
    config = written(bundle)
    gpu = simulated.gpus()[1]
    assert granted_rules(config) == {(195, gpu.minor, "rw"), (195, 255, "rw")}
    assert {gpu.node, "/dev/nvidiactl", "/dev/nvidia-uvm"} <= {entry["path"] for entry in config["linux"]["devices"]}
    assert f"NVIDIA_VISIBLE_DEVICES={gpu.uuid}" in config["process"]["env"]
    for stage in ("prestart", "poststop"):
        (entry,) = config["hooks"][stage]
        assert [word for word in entry["args"] if not word.startswith(("--standby", "/"))] == ["oci-gpu-hook", stage]
        assert entry["env"] == HOOK_ENVIRONMENT


def test_nothing_else_of_the_bundle_changes(front, plain_bundle):
    bundle = plain_bundle(gpus="0", args=("/bin/true",), annotations={"a": "b"})
    bundle.config["x-vendor"] = {"big": 18446744073709551615, "half": 0.5, "text": "\u00e9\U0001f600"}
    path = bundle.directory / "config.json"
    path.touch(mode=0o640)
    path.chmod(0o640)
    os.chown(path, 7, 8)
    front.run(bundle).seen()
    before, after = copy.deepcopy(bundle.config), written(bundle)
    for config in (before, after):
        config.pop("hooks", None)
        config["linux"].pop("devices", None)
        config["linux"]["resources"].pop("devices")
        config["annotations"].pop("io.oci-gpu-hook.prepared", None)
        config["process"]["env"] = [e for e in config["process"]["env"] if not e.startswith("NVIDIA_VISIBLE_DEVICES")]
    assert after == before
    status = path.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 7, 8)
    assert sorted(p.name for p in bundle.directory.iterdir()) == ["config.json", "rootfs"]


def test_a_container_without_gpus_is_byte_for_byte_the_bundle_it_was(front, plain_bundle):
    for name, options in {"plain": {}, "void": {"gpus": "void"}}.items():
        bundle = plain_bundle("list=/dev", name=name, **options)
        seen = front.run(bundle).seen()
        assert not [entry for entry in seen["list=/dev"] if entry.startswith("nvidia")]
        assert (bundle.directory / "config.json").read_text() == json.dumps(bundle.config)


@pytest.mark.parametrize(
    "asked",
    [
        {"annotations": COUNT},
        {"annotations": COUNT, "gpus": "all"},
        {"env": ("OCI_GPU_COUNT=1",)},
        {"env": ("OCI_GPU_COUNT=1",), "gpus": "all"},
        {"env": ("CUDA_VERSION=9.0", "NVIDIA_DISABLE_REQUIRE=1", "OCI_GPU_COUNT=1", "NVIDIA_VISIBLE_DEVICES=all")},
    ],
    ids=["count", "count-of-all", "variable", "variable-of-all", "old-image"],
)
def test_what_is_asked_by_count_is_granted_once(front, plain_bundle, simulated, asked):
    asked["env"] = (*asked.get("env", ()), "OCI_GPU_EXCLUSIVE=1") if "env" in asked else ()
    if "annotations" in asked:
        asked["annotations"] = {**asked["annotations"], "io.oci-gpu-hook.exclusive": "true"}
    first = plain_bundle(name="first", **{**asked, "args": ("/bin/sleep", "60")})
    second = plain_bundle(*reach(simulated), name="second", **asked)
    with front.started(first) as container:
        (lease,) = [lease for lease in leases(simulated) if lease["container"] == container.id]
        assert lease["starting"] is False
        assert lease["pid"] == container.pid
        config = written(first)
        visible = [e for e in config["process"]["env"] if e.startswith("NVIDIA_VISIBLE_DEVICES=")]
        assert visible == [f"NVIDIA_VISIBLE_DEVICES={lease['devices'][0]['gpu']}"]
        mine = next(gpu for gpu in simulated.gpus() if gpu.uuid == lease["devices"][0]["gpu"])
        seen = front.run(second).seen()
        assert_reaches(seen, simulated, (1 - mine.index,))


def test_a_bundle_started_again_gets_what_is_free_then(front, plain_bundle, simulated):
    exclusive = {**COUNT, "io.oci-gpu-hook.exclusive": "true"}
    again = plain_bundle(*reach(simulated), name="again", annotations=exclusive)
    assert_reaches(front.run(again).seen(), simulated, (0,))
    other = plain_bundle(name="other", annotations=exclusive, args=("/bin/sleep", "60"))
    prepared = written(again)
    with front.started(other):
        again.config = prepared
        assert_reaches(front.run(again).seen(), simulated, (1,))
    config = written(again)
    assert granted_rules(config) == {(195, simulated.gpus()[1].minor, "rw"), (195, 255, "rw")}
    assert [len(config["hooks"][stage]) for stage in ("prestart", "poststop")] == [1, 1]
    assert len(config["linux"]["devices"]) == len(prepared["linux"]["devices"])


def test_a_hook_that_the_engine_registers_stays_alone(front, make_bundle, simulated):
    bundle = make_bundle(*reach(simulated), gpus="0")
    hooks = copy.deepcopy(bundle.config["hooks"])
    assert_reaches(front.run(bundle).seen(), simulated, (0,))
    assert written(bundle)["hooks"] == hooks


def test_nvidias_hook_is_left_to_itself(front, plain_bundle, directory):
    own = directory / "nvidia-container-runtime-hook"
    own.write_text("#!/bin/sh\ncat > /dev/null\n")
    own.chmod(0o755)
    bundle = plain_bundle("list=/dev", gpus="0")
    bundle.config["hooks"] = {"prestart": [{"path": str(own), "args": [own.name, "prestart"]}]}
    seen = front.run(bundle).seen()
    assert "nvidia0" not in seen["list=/dev"]
    assert written(bundle) == bundle.config


def test_a_user_namespace_gets_rules_and_the_hooks_nodes(front, plain_bundle, simulated):
    bundle = plain_bundle(*reach(simulated, user_namespace=True), gpus="1", user_namespace=True)
    assert_reaches(front.run(bundle).seen(), simulated, (1,), own_nodes=False)
    assert "devices" not in written(bundle)["linux"] or not written(bundle)["linux"]["devices"]


def test_groups_of_nodes_that_not_everybody_may_use(front, plain_bundle, simulated, directory):
    host = simulated.copy(directory / "host")
    for gpu in host.gpus():
        node = host.dev / gpu.node.removeprefix("/dev/")
        os.chown(node, 0, 44)
        node.chmod(0o660)
    (front.host.path("/etc/oci-gpu-hook/config.toml")).write_bytes(host.config.read_bytes())
    bundle = plain_bundle(f"open={host.gpus()[0].node}", gpus="0", user=(1000, 1000), capabilities=())
    seen = front.run(bundle).seen()
    assert seen[f"open={host.gpus()[0].node}"] == "ENXIO"
    assert written(bundle)["process"]["user"]["additionalGids"] == [44]


def test_nothing_is_left_after_a_refusal(front, plain_bundle, simulated, directory):
    bundle = plain_bundle(gpus="7", args=("/bin/true",))
    before = len(leases(simulated))
    result = front.run(bundle)
    assert result.status == 1
    assert result.stderr.count("oci-gpu-runtime: error: ") == 1
    assert "7" in result.stderr
    assert written(bundle) == bundle.config
    assert len(leases(simulated)) == before


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_refusal_is_in_the_log_where_engines_look(front, plain_bundle, directory, form):
    bundle = plain_bundle(gpus="7", args=("/bin/true",))
    bundle.write()
    log = directory / "log"
    front.host.call(
        front.binary, "--log", log, "--log-format", form, "create", "--bundle", bundle.directory, "c1", check=False
    )
    (line,) = log.read_text().splitlines()
    if form == "json":
        entry = json.loads(line)
        assert entry["level"] == "error"
        assert entry["msg"].startswith("oci-gpu-runtime: error: ")
    else:
        assert " level=error msg=" in line


def test_a_real_runtime_that_is_gone_leaves_the_bundle_as_it_was(front, plain_bundle, simulated, directory):
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    bundle.write()
    gone = directory / "runc"
    gone.write_text("#!/bin/sh\n")
    gone.chmod(0o755)
    runtime = oci_gpu("hook-path", "--runtime", "--directory", directory / "gone", "--real-runtime", gone).strip()
    gone.unlink()
    done = front.host.call(runtime, "create", "--bundle", bundle.directory, "c1", check=False)
    assert done.returncode == 1
    assert "cannot start the real runtime" in done.stderr
    assert written(bundle) == bundle.config
    assert not [lease for lease in leases(simulated) if lease["container"] == "c1"]


def test_the_real_runtime_is_started_as_the_engine_would(front, plain_bundle, directory):
    """Environment, working directory, arguments, descriptors and signals are the engine's."""
    witness = directory / "witness"
    witness.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@"\npwd\ntr "\\0" "\\n" < /proc/self/environ\ngrep SigIgn /proc/self/status\n'
        "ls /proc/self/fd | wc -l\n"
    )
    witness.chmod(0o755)
    runtime = oci_gpu("hook-path", "--runtime", "--directory", directory / "w", "--real-runtime", witness).strip()
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    bundle.write()
    arguments = ["--debug", "create", f"--bundle={bundle.directory}", "--preserve-fds", "1", "a b"]
    command = front.host.command("env", "-i", "-C", directory, "A=\udcff b", runtime, *arguments)
    bare = front.host.command("env", "-i", "-C", directory, "A=\udcff b", witness, *arguments)
    through = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    assert through == subprocess.run(bare, capture_output=True, check=True, timeout=30).stdout


ALLOW = """
import json, sys
from oci_gpu_hook.apply.device_access import cgroup
found = cgroup.find(int(sys.argv[1]))
nodes = [tuple(node) for node in json.loads(sys.argv[2])]
print(json.dumps([[cgroup.allows(found, *node) for node in nodes], len(cgroup.allow(found, nodes, ()).changes)]))
"""


def test_what_the_runtime_owns_leaves_the_hook_no_rule_to_change(front, runtime, plain_bundle, simulated, directory):
    """No hook has run here: the bundle is prepared, and its hooks are taken out before the start."""
    runtime_alone = oci_gpu("hook-path", "--runtime", "--directory", directory / "w", "--real-runtime", "/bin/true")
    bundle = plain_bundle(gpus="0", args=("/bin/sleep", "60"))
    bundle.write()
    front.host.call(runtime_alone.strip(), "create", "--bundle", bundle.directory, "prepared")
    bundle.config = written(bundle)
    del bundle.config["hooks"]
    nodes = [[entry["major"], entry["minor"]] for entry in bundle.config["linux"]["devices"]]
    assert [195, simulated.gpus()[0].minor] in nodes
    with runtime.started(bundle) as container:
        done = front.host.call(sys.executable, "-c", ALLOW, container.pid, json.dumps(nodes))
        allowed, changes = json.loads(done.stdout)
        assert allowed == [True] * len(nodes)
        assert changes == 0
        other = [[195, simulated.gpus()[1].minor]]
        done = front.host.call(sys.executable, "-c", ALLOW, container.pid, json.dumps(other))
        assert json.loads(done.stdout) == [[False], 1]
