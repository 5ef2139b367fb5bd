"""oci-gpu install and uninstall on files of every kind: what is not ours stays, to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from typing import Any

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.engines import containerd, crio, docker, json_text, podman
from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX
from tests.paths import ROOT
from tests.unit.admin.engines.conftest import HOOK, RUNTIME, put, tree

DAEMON_JSON = {
    "two": '{\n  "debug": true,\n  "log-opts": {"max-size": "1m"}\n}\n',
    "four": '{\n    "bip": "10.0.0.1/24",\n'
    '    "runtimes": {\n        "kata": {\n            "path": "/k"\n        }\n    }\n}',
    "tab": '{\n\t"storage-driver": "overlay2",\n\t"hosts": ["unix:///s", "tcp://[::1]:1"]\n}\n',
    "line": '{"debug": false}',
    "windows": '{\r\n  "debug": true\r\n}\r\n',
    "empty object": "{}",
    "empty runtimes": '{"runtimes": {}}\n',
    "spread empty": "{\n\n}\n",
    "nothing": "",
    "blank": " \n",
    "escapes": '{\n  "labels": ["\\u00e9=\\"}{", "a:b,c"],\n  "x": -1.50e3\n}\n',
}
CONFIG_TOML = {
    "debian": 'version = 2\n\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n    x = 1 # kept\n',
    "kubernetes": 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
    'runtime_type = "io.containerd.runc.v2"\n'
    '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nSystemdCgroup = true\n',
    "version 3": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'",
    "bare": "version = 2",
}


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("name", DAEMON_JSON)
def test_docker_goes_in_and_out(root, oci_gpu, name, default):
    file = put(root, docker.FILE, DAEMON_JSON[name], 0o640)
    before = tree(root)
    options = ("--default",) if default else ()
    assert oci_gpu("install", "docker", *options)[0] == 0
    daemon = json.loads(file.read_bytes())
    assert daemon.pop("runtimes")["oci-gpu"] == {"path": RUNTIME}
    assert (daemon.pop("default-runtime", None) == "oci-gpu") is default
    expected = json_text.load(DAEMON_JSON[name])
    expected.pop("runtimes", None)
    assert list(daemon.items()) == list(expected.items())
    kept = [
        line.strip().rstrip(",") for line in DAEMON_JSON[name].splitlines() if len(line) > 3 and "runtimes" not in line
    ]
    assert all(line in file.read_text() for line in kept if name != "line")
    assert (root / docker.HOOK_LINK[1:]).readlink().as_posix() == HOOK
    once = tree(root)
    status, out, _ = oci_gpu("install", "docker", *options)
    assert (status, tree(root)) == (0, once)
    assert "Nothing to change" in out
    assert oci_gpu("uninstall", "docker")[0] == 0
    assert tree(root) == before


def test_docker_without_a_file_gets_one_and_loses_it(root, oci_gpu):
    before = tree(root)
    assert oci_gpu("install", "docker")[0] == 0
    assert json.loads((root / docker.FILE[1:]).read_bytes()) == {"runtimes": {"oci-gpu": {"path": RUNTIME}}}
    assert oci_gpu("uninstall", "docker")[0] == 0
    assert tree(root) == before


def test_layout_stays(root, oci_gpu):
    file = put(root, docker.FILE, DAEMON_JSON["two"])
    oci_gpu("install", "docker")
    assert file.read_text() == (
        '{\n  "debug": true,\n  "log-opts": {"max-size": "1m"},\n  "runtimes": {\n    "oci-gpu": {\n'
        f'      "path": "{RUNTIME}"\n    }}\n  }}\n}}\n'
    )


def test_what_was_edited_since_stays(root, oci_gpu):
    file = put(root, docker.FILE, DAEMON_JSON["four"])
    oci_gpu("install", "docker", "--default")
    file.write_text(file.read_text().replace("10.0.0.1", "10.9.9.9"))
    status, out, _ = oci_gpu("uninstall", "docker")
    assert status == 0
    assert "edited since" in out
    assert file.read_text() == DAEMON_JSON["four"].replace("10.0.0.1", "10.9.9.9")


@pytest.mark.parametrize("engine", ["docker", "podman", "crio", "containerd"])
def test_a_dry_run_shows_a_diff_and_changes_nothing(root, oci_gpu, engine):
    put(root, docker.FILE, DAEMON_JSON["two"])
    put(root, containerd.FILE, CONFIG_TOML["debian"])
    before = tree(root)
    status, diff, _ = oci_gpu("install", engine, "--dry-run")
    assert (status, tree(root)) == (0, before)
    if engine == "docker":
        diff = diff[: diff.index("--- /dev/null")]  # the link
    patched = subprocess.run(
        ["patch", "-p0", "--dry-run"], input=diff, text=True, capture_output=True, cwd="/", check=False
    )
    assert patched.returncode == 0, patched.stdout + diff


@pytest.mark.parametrize("name", CONFIG_TOML)
def test_containerd_goes_in_and_out(root, oci_gpu, name):
    file = put(root, containerd.FILE, CONFIG_TOML[name], 0o600)
    before = tree(root)
    assert oci_gpu("install", "containerd")[0] == 0
    assert file.read_text().startswith(CONFIG_TOML[name])
    config = tomllib.loads(file.read_text())
    plugin = config["plugins"]["io.containerd.cri.v1.runtime" if name == "version 3" else "io.containerd.grpc.v1.cri"]
    assert plugin["containerd"]["runtimes"]["runc"]["runtime_type"] == "io.containerd.runc.v2"
    handler = plugin["containerd"]["runtimes"]["oci-gpu"]
    assert handler["runtime_type"] == "io.containerd.runc.v2"
    assert handler["options"]["BinaryName"] == RUNTIME
    assert handler["options"].get("SystemdCgroup") is (True if name == "kubernetes" else None)
    assert "io.oci-gpu-hook.*" in handler["pod_annotations"]
    once = tree(root)
    assert oci_gpu("install", "containerd")[0] == 0
    assert tree(root) == once
    assert oci_gpu("uninstall", "containerd")[0] == 0
    assert tree(root) == before


def test_containerd_without_a_file_gets_one_and_loses_it(root, oci_gpu):
    before = tree(root)
    oci_gpu("install", "containerd")
    assert tomllib.loads((root / containerd.FILE[1:]).read_text())["version"] == 2
    oci_gpu("uninstall", "containerd")
    assert tree(root) == before


def test_containerd_edited_since_keeps_the_edits(root, oci_gpu):
    file = put(root, containerd.FILE, CONFIG_TOML["debian"])
    oci_gpu("install", "containerd")
    file.write_text(file.read_text() + "[debug]\nlevel = 'debug'\n")
    assert "edited since" in oci_gpu("uninstall", "containerd")[1]
    assert file.read_text() == CONFIG_TOML["debian"] + "[debug]\nlevel = 'debug'\n"


@pytest.mark.parametrize("engine", ["podman", "crio"])
def test_hooks_d_goes_in_and_out(root, oci_gpu, engine):
    before = tree(root)
    assert oci_gpu("install", engine)[0] == 0
    file = root / "usr/share/containers/oci/hooks.d/oci-gpu-hook.json"
    with open(ROOT / "hooks.d/oci-gpu-hook.json", "rb") as shipped:
        assert json.loads(file.read_bytes()) == json.load(shipped)
    assert oci_gpu("uninstall", engine)[0] == 0
    assert tree(root) == before


BAD: dict[str, tuple[Any, ...]] = {
    "not JSON": (docker.FILE, "{not json", "docker", "dockerd reads"),
    "a list": (docker.FILE, "[]", "docker", "not a JSON object"),
    "a key twice": (docker.FILE, '{"a": 1, "a": 2}', "docker", "'a' twice"),
    "runtimes of another type": (docker.FILE, '{"runtimes": []}', "docker", "not a JSON object"),
    "another oci-gpu": (docker.FILE, '{"runtimes": {"oci-gpu": {"path": "/other"}}}', "docker", "another runtime"),
    "not UTF-8": (docker.FILE, b'{"a": "\xff"}', "docker", "not UTF-8"),
    "not TOML": (containerd.FILE, "version = ", "containerd", "not TOML"),
    "version 1": (containerd.FILE, 'disabled_plugins = ["cri"]\n', "containerd", "version 1"),
    "another handler": (
        containerd.FILE,
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci-gpu]\n',
        "containerd",
        "another handler",
    ),
    "inline": (
        containerd.FILE,
        'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\ncontainerd = {runtimes = {}}\n',
        "containerd",
        "cannot be extended",
    ),
    "half a block": (containerd.FILE, "version = 2\n\n" + containerd._BEGIN + "\nx = 1\n", "containerd", "damaged"),
    "another's hook file": (
        "/usr/share/containers/oci/hooks.d/oci-gpu-hook.json",
        '{"hook": {"path": "/other"}}',
        "podman",
        "was not made by oci-gpu-hook",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_left(root, oci_gpu, name):
    path, contents, engine, why = BAD[name]
    file = put(root, path, "")
    file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    before = tree(root)
    status, _, complaint = oci_gpu("install", engine)
    assert status == 1
    assert why in complaint
    assert complaint.startswith("oci-gpu: error: ")
    assert tree(root) == before


def test_another_default_runtime_is_refused_only_by_default(root, oci_gpu):
    put(root, docker.FILE, '{"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "/n"}}}')
    before = tree(root)
    status, _, complaint = oci_gpu("install", "docker", "--default")
    assert (status, tree(root)) == (1, before)
    assert "another default runtime: 'nvidia'" in complaint
    assert oci_gpu("install", "docker")[0] == 0


@pytest.mark.parametrize(("path", "engine"), [(docker.FILE, "docker"), (containerd.FILE, "containerd")])
def test_a_link_is_refused_and_left(root, oci_gpu, path, engine):
    put(root, "/elsewhere", "{}")
    (root / path[1:]).parent.mkdir(parents=True)
    (root / path[1:]).symlink_to(root / "elsewhere")
    before = tree(root)
    status, _, complaint = oci_gpu("install", engine)
    assert (status, tree(root)) == (1, before)
    assert "symbolic link" in complaint


def test_a_file_that_cannot_be_written_is_left(root, oci_gpu):
    file = put(root, docker.FILE, "{}")
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", file, file], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", file], check=True)
    else:
        file.chmod(0o444)
    before = tree(root)
    try:
        status, _, complaint = oci_gpu("install", "docker")
        assert (status, tree(root)) == (1, before)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", file], check=True)
    assert "cannot write" in complaint


@pytest.mark.parametrize("engine", ["docker", "podman", "crio", "containerd"])
def test_an_engine_that_is_not_there_is_said_so(tmp_path, capsys, engine):
    assert main.main(["install", engine, "--root", str(tmp_path)]) == 1
    assert "is not installed" in capsys.readouterr().err
    assert tree(tmp_path) == {}


def test_an_engine_that_is_too_old(root, monkeypatch, capsys):
    old = root / "usr/sbin/dockerd"
    old.write_text("#!/bin/sh\necho Docker version 18.09.1, build 4c52b90\n")
    monkeypatch.setattr("oci_gpu_hook.admin.engines.programs.DIRECTORIES", (str(root / "usr/sbin"),))
    assert main.main(["install", "docker", "--dry-run"]) == 1
    assert "dockerd 18.9: is too old" in capsys.readouterr().err


def test_no_runc_and_no_crun(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", "/nonexistent")
    file = str(tmp_path / "daemon.json")  # where it is named, no dockerd need be installed
    assert main.main(["install", "docker", "--dry-run", "--file", file]) == 1
    assert "install runc" in capsys.readouterr().err


def test_a_hooks_directory_that_is_not_there(root, oci_gpu):
    status, _, complaint = oci_gpu("install", "podman", "--hooks-directory", "/etc/containers/oci/hooks.d")
    assert status == 1
    assert "is not a directory" in complaint


def test_nvidias_hook_is_never_replaced(root, oci_gpu):
    own = put(root, "/usr/local/bin/nvidia-container-runtime-hook", "#!/bin/sh\n", 0o755)
    status, _, complaint = oci_gpu("install", "docker")
    assert status == 0
    assert "belongs to other software" in complaint
    assert own.read_text() == "#!/bin/sh\n"
    assert not os.path.lexists(root / docker.HOOK_LINK[1:])
    oci_gpu("uninstall", "docker")
    assert own.exists()


def test_runtimes_on_dockerds_command_line_are_refused(root, oci_gpu):
    put(
        root,
        "/etc/systemd/system/docker.service.d/x.conf",
        "[Service]\nExecStart=\nExecStart=dockerd --add-runtime a=b\n",
    )
    before = tree(root)
    status, _, complaint = oci_gpu("install", "docker")
    assert (status, tree(root)) == (1, before)
    assert "--add-runtime" in complaint


def test_all_or_nothing(root, oci_gpu, monkeypatch):
    put(root, docker.FILE, "{}")
    before = tree(root)

    def refuse(*_arguments):
        raise OSError(28, "No space left on device", "/usr/bin/x")

    monkeypatch.setattr(os, "symlink", refuse)
    status, _, complaint = oci_gpu("install", "docker")
    assert status == 1
    assert "No space left" in complaint
    assert tree(root) == before


@pytest.mark.parametrize("module", [docker, podman, crio, containerd])
def test_checks_tell_before_and_after(root, oci_gpu, module):
    name = module.__name__.rpartition(".")[2]
    assert not any(finding.ok for finding in module.check(str(root)))
    oci_gpu("install", name)
    assert all(finding.ok for finding in module.check(str(root)))
    (root / HOOK[1:]).unlink()
    (root / RUNTIME[1:]).unlink()
    findings = module.check(str(root))
    assert findings
    assert not all(finding.ok for finding in findings)
    assert all(finding.remedy for finding in findings if not finding.ok)


def test_backups_do_not_stay(root, oci_gpu):
    put(root, docker.FILE, DAEMON_JSON["two"])
    oci_gpu("install", "docker")
    assert (root / (docker.FILE + BACKUP_SUFFIX)[1:]).read_text() == DAEMON_JSON["two"]
    oci_gpu("uninstall", "docker")
    assert not [path for path in tree(root) if path.endswith(BACKUP_SUFFIX)]


TEXTS = ["{}", '{"a":1}', '{"a": {"b": {}}}', '{\n "z": [1, {"a": 2}],\n "a": {"q": "}"}\n}', '{"a":{"b":1,"c":2}}']


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("path", [("a",), ("new",), ("a", "b"), ("x", "y", "z")])
def test_json_members(text, path):
    document = json.loads(text)
    inner = document
    for key in path[:-1]:
        if not isinstance(inner.setdefault(key, {}), dict):
            with pytest.raises(ValueError, match="not a JSON object"):
                json_text.with_member(text, path, [1])
            return
        inner = inner[key]
    inner[path[-1]] = [1]
    edited = json_text.with_member(text, path, [1])
    assert json.loads(edited) == document
    without = json.loads(json_text.without_member(edited, path))
    for key in path[:-1]:
        without = without.get(key, {})
    assert path[-1] not in without
