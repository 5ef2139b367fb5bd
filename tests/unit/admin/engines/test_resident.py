"""`oci-gpu install resident`: units as the package has them, enabled at boot, and taken away again."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.engines import resident
from oci_gpu_hook.admin.engines.model import Target
from oci_gpu_hook.admin.install import front_file
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.entrypoints.resident import SOCKET
from tests.paths import ROOT

WANTED = "etc/systemd/system/sockets.target.wants/oci-gpu-hook.socket"


def run(*arguments: object) -> int:
    return main(list(map(str, arguments)))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    return root


def tree(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_the_packages_units_are_these():
    for name, text in (("oci-gpu-hook.socket", resident.SOCKET_TEXT), ("oci-gpu-hook.service", service())):
        assert (ROOT / "package" / name).read_text() == text
    assert f"ListenSequentialPacket={SOCKET}\n" in resident.SOCKET_TEXT


def service() -> str:
    stub = "/usr/libexec/oci-gpu-hook/oci-gpu-resident.py"
    return resident.SERVICE_TEXT.format(interpreter="/usr/bin/python3", options="-ISBXutf8", stub=stub)


def test_it_makes_units_and_takes_them_away(root, capsys):
    assert run("install", "resident", "--root", root) == 0
    assert "systemctl daemon-reload && systemctl start oci-gpu-hook.socket" in capsys.readouterr().out
    units = root / "etc/systemd/system"
    assert (units / "oci-gpu-hook.socket").read_text() == resident.SOCKET_TEXT
    assert (units / "oci-gpu-hook.service").read_text() == service()
    assert (root / WANTED).readlink().as_posix() == "/etc/systemd/system/oci-gpu-hook.socket"
    assert resident.is_installed(str(root))
    assert run("install", "resident", "--root", root) == 0
    assert "Nothing to change." in capsys.readouterr().out
    assert run("uninstall", "resident", "--root", root) == 0
    assert "systemctl stop oci-gpu-hook.socket oci-gpu-hook.service" in capsys.readouterr().out
    assert not resident.is_installed(str(root))
    assert tree(root) - {"var/lib/oci-gpu-hook/installations.json"} == set()


def test_all_is_taken_away_with_everything_else(root):
    assert run("install", "resident", "--root", root) == 0
    assert run("uninstall", "--all", "--root", root) == 0
    assert tree(root) - {"var/lib/oci-gpu-hook/installations.json"} == set()


def test_where_the_package_has_the_units_it_only_enables_them(root):
    for name in ("oci-gpu-hook.socket", "oci-gpu-hook.service"):
        (root / "usr/lib/systemd/system" / name).write_text("of the package")
    assert run("install", "resident", "--root", root) == 0
    assert (root / WANTED).readlink().as_posix() == "/usr/lib/systemd/system/oci-gpu-hook.socket"
    assert not (root / "etc/systemd/system/oci-gpu-hook.socket").exists()
    assert run("uninstall", "resident", "--root", root) == 0
    assert not (root / WANTED).is_symlink()
    assert (root / "usr/lib/systemd/system/oci-gpu-hook.socket").read_text() == "of the package"


def test_a_dry_run_shows_it_and_changes_nothing(root, capsys):
    assert run("install", "resident", "--root", root, "--dry-run") == 0
    assert "+KillMode=process" in capsys.readouterr().out
    assert tree(root) == set()


def test_without_the_front_there_is_nothing_that_asks(tmp_path):
    hook = tmp_path / "oci-gpu-hook"
    hook.write_text("#!/usr/bin/python3\n")
    with pytest.raises(HookError, match="is not the static front, and only that asks the resident"):
        resident.install(Target(hook=str(hook), runtime=""))


def test_it_starts_the_interpreter_of_the_front(tmp_path, monkeypatch):
    hook = tmp_path / "oci-gpu-hook"
    if not front_file.write_front(str(hook), "hook", "/usr/bin/python3.99", f"{hook}.pyc"):
        pytest.skip("the front was not built")
    monkeypatch.setattr(resident, "DIRECTORY", str(tmp_path / "units"))
    changes = resident.install(Target(hook=str(hook), runtime="")).changes
    text = next(change.after for change in changes if change.path.endswith(".service"))
    assert text is not None
    assert f"ExecStart=/usr/bin/python3.99 -ISBXutf8 {tmp_path}/oci-gpu-resident.py\n" in text.decode()


def test_a_path_that_a_unit_cannot_have_is_refused(tmp_path):
    with pytest.raises(HookError, match="cannot be in a systemd unit"):
        resident.install(Target(root=str(tmp_path), hook="/opt/a b/oci-gpu-hook", runtime=""))
