"""A hook's front whose Python says which stages it was started for."""

from __future__ import annotations

import shutil
from pathlib import Path

from oci_gpu_hook.admin.install.bytecode import byte_code
from oci_gpu_hook.admin.install.front_file import read_front, write_front


def lay(path: Path, role: str, stub: str, program: object = "") -> None:
    """Lay a front with a stub of its own."""
    interpreter = stub[stub.index("#!") :].partition("\n")[0].removeprefix("#!").split()[0]
    path.with_suffix(".pyc").write_bytes(byte_code(stub, str(path.with_suffix(".py"))))
    assert write_front(str(path), role, interpreter, str(path.with_suffix(".pyc")), str(program))


def lay_hook(path: Path, hook: Path, marks: Path) -> None:
    """Lay a hook that adds its stage to a file whenever it starts Python. hook: the front to copy."""
    said = "(sys.argv[-1] + ' ').encode()"
    note = f"import posix, sys\nposix.write(posix.open({str(marks)!r}, 0o2101, 0o644), {said})\n"
    lay(path, "hook", note + hook.with_name("oci-gpu-hook.py").read_text())


def copied(front: str, place: Path) -> Path:
    """Copy the installation of a front, whose files name their directory, and return the new one."""
    directory = Path(front).parent
    shutil.copytree(directory, place)
    for script in place.glob("*.py"):
        text = script.read_text().replace(str(directory), str(place))
        script.write_text(text)
        if script.with_suffix(".pyc").exists():
            script.with_suffix(".pyc").write_bytes(byte_code(text, str(script)))
    for role in ("hook", "runtime"):
        path = str(place / f"oci-gpu-{role}")
        if found := read_front(path):
            assert write_front(path, role, found.interpreter, f"{path}.pyc", found.program, found.resident)
    return place


def is_front(path: Path) -> bool:
    """Tell whether the front was built."""
    return path.read_bytes()[:4] == b"\x7fELF"
