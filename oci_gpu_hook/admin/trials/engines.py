"""How each engine starts a container to its end, and what has to be removed afterwards."""

from __future__ import annotations

import json  # noqa: TID253  a command for people
import os
import shutil  # noqa: TID253
import subprocess  # noqa: TID253

from oci_gpu_hook.admin.doctor import tiny
from oci_gpu_hook.admin.install import executables, place
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

NAMES: Final = ("docker", "podman", "containerd", "runc", "crun")
_PROGRAMS: Final = {"containerd": "ctr"}
_BARE: Final = ("runc", "crun")
_SECONDS: Final = 60.0  # for an engine to take an image, to answer, or to remove a container
_TAG: Final = "oci-gpu-run"


class NotTried(HookError):
    """An engine with which no container was started, and why."""

    code = "OGH1913"

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__("not tried", why, remedy)


class Wanted(Record):
    """What is to be started. image: "" for a small one of the host's shell. config: path of the configuration."""

    image: str
    command: tuple[str, ...]
    env: tuple[str, ...]
    config: str
    has_own_config: bool


class Prepared(Record):
    """A container that a command will run. words: the file with what its hook said, "" where the engine shows that."""

    command: tuple[str, ...]
    words: str = ""


def installed() -> list[str]:
    """Return the engines whose client is on PATH."""
    return [name for name in NAMES if shutil.which(_PROGRAMS.get(name, name))]


def prepare(engine: str, wanted: Wanted, work: str, remove: list[tuple[str, ...]]) -> Prepared:
    """Make what the engine needs, in `work`, a directory that the caller removes. Raises NotTried, HookError.

    remove: gets the commands that remove the container and what is made outside `work`, each before that is made; the
    caller runs them, whatever happens.
    """
    if engine in _BARE:
        return _bare(engine, wanted, work, remove)
    if wanted.has_own_config and engine != "podman":
        raise NotTried(f"it does not read {quoted(wanted.config)}", "leave --config out, or name --engine runc")
    return {"docker": _docker, "podman": _podman, "containerd": _containerd}[engine](wanted, work, remove)


def _docker(wanted: Wanted, work: str, remove: list[tuple[str, ...]]) -> Prepared:
    name = os.path.basename(work)
    known = _answer(["docker", "info", "--format", "{{json .Runtimes}}"], "dockerd does not answer: start it")
    if '"oci-gpu"' not in known:
        raise NotTried("dockerd knows no runtime oci-gpu", "oci-gpu install docker, and restart Docker")
    image = wanted.image
    remove.append(("docker", "rm", "--force", name))
    if not image:
        image = f"{_TAG}:{name}"
        remove.append(("docker", "rmi", "--force", image))
        _import(work, ["docker", "import", "-", image])
    command = ("docker", "run", "--rm", "--name", name, "--network", "none", "--runtime", "oci-gpu")
    return Prepared(command=(*command, *_options(wanted), image, *wanted.command))


def _podman(wanted: Wanted, work: str, remove: list[tuple[str, ...]]) -> Prepared:
    name = os.path.basename(work)
    # crun does not show what a hook says, but writes it to this file.
    words = f"{work}/words"
    options = ("--name", name, "--network", "none", "--annotation", f"run.oci.hooks.stderr={words}")
    image = (wanted.image,) if wanted.image else ("--rootfs", _rootfs(work))
    remove.append(("podman", "rm", "--force", "--ignore", "--time", "0", name))
    return Prepared(
        command=("podman", "run", "--rm", *options, *_options(wanted), *image, *wanted.command),
        words=words,
    )


def _containerd(wanted: Wanted, work: str, remove: list[tuple[str, ...]]) -> Prepared:
    name = os.path.basename(work)
    _answer(
        ["ctr", "version"],
        f"containerd does not answer: start it{'' if os.geteuid() == 0 else ', or run this as root'}",
    )
    runtime = os.path.join(place.installed_directory(), "oci-gpu-runtime")
    if not os.path.exists(runtime):
        raise NotTried(f"{runtime} is not installed", "oci-gpu hook-path installs it")
    image = (wanted.image,) if wanted.image else ("--rootfs", _rootfs(work))
    remove += [("ctr", "tasks", "rm", "--force", name), ("ctr", "containers", "rm", name)]
    return Prepared(
        command=("ctr", "run", "--rm", "--runc-binary", runtime, *_options(wanted), *image, name, *wanted.command)
    )


def _bare(engine: str, wanted: Wanted, work: str, remove: list[tuple[str, ...]]) -> Prepared:
    if wanted.image:
        raise NotTried("it has no images", "leave IMAGE out, for a small one of this host's shell")
    if os.geteuid() != 0:
        raise NotTried("a bundle is started by root", "run it as root")
    _rootfs(work)
    hook = os.path.join(place.installed_directory(), "oci-gpu-hook")
    if not os.path.exists(hook):
        hook = executables.write(f"{work}/libexec").hook
    config = json.loads(tiny.config_json("", hook, wanted.config, wanted.env))
    config["process"]["args"] = list(wanted.command)
    words = f"{work}/words"
    config["annotations"] = {"run.oci.hooks.stderr": words}
    with open(f"{work}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    name = os.path.basename(work)
    runtime = (engine, "--root", f"{work}/runtime")
    remove.append((*runtime, "delete", "--force", name))
    return Prepared(command=(*runtime, "run", "--bundle", work, name), words=words)


def _options(wanted: Wanted) -> list[str]:
    return [word for entry in wanted.env for word in ("--env", entry)]


def _rootfs(work: str) -> str:
    rootfs = f"{work}/rootfs"
    tiny.make_rootfs(rootfs)
    return rootfs


def _import(work: str, command: Sequence[str]) -> None:
    """Hand the small image to an engine, as a tar archive."""
    archive = shutil.make_archive(f"{work}/image", "tar", _rootfs(work))
    remedy = "name an IMAGE that the engine has"
    try:
        with open(archive, "rb") as file:
            done = subprocess.run(
                command, stdin=file, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
            )
    except subprocess.TimeoutExpired:
        raise HookError(" ".join(command[:2]), f"it did not end within {_SECONDS:.0f} s", remedy, "OGH1914") from None
    if done.returncode:
        raise HookError(" ".join(command[:2]), quoted(done.stderr.strip()), remedy, "OGH1914")


def _answer(command: list[str], remedy: str) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotTried(f"{command[0]} waits for its daemon", remedy) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).split("\n")[-1]
        raise NotTried(f"{command[0]} says {quoted(said)}", remedy)
    return done.stdout
