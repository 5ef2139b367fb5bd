"""The build step that pyproject.toml cannot say: the front, compiled wherever a C compiler is found."""

from __future__ import annotations

import os
import subprocess
import sys
from sysconfig import get_platform

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel as BaseWheel
from setuptools.command.build import build as BaseBuild
from setuptools.command.build_py import build_py as BaseBuildPy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE = "oci_gpu_hook/admin/install/front.elf"
SOURCES = "front"
ERRORS = "docs/errors.md"
COMPLETIONS = {
    "bash": "share/bash-completion/completions/oci-gpu",
    "zsh": "share/zsh/site-functions/_oci-gpu",
    "fish": "share/fish/vendor_completions.d/oci-gpu.fish",
}


class BuildFront(Command):
    """Compile the front into the package; without a compiler, leave it out and say so."""

    user_options = [("build-lib=", "d", "directory to build to")]
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    @property
    def output(self) -> str:
        """Where the template goes; beside the sources for an editable install."""
        return TEMPLATE if self.editable_mode else os.path.join(self.build_lib or "", TEMPLATE)

    def run(self) -> None:
        os.makedirs(os.path.dirname(self.output), exist_ok=True)
        if os.path.exists(self.output):
            os.unlink(self.output)
        command = ["sh", os.path.join(SOURCES, "build.sh"), self.output]
        status = subprocess.run(command, check=False).returncode
        if status:
            print(
                "oci-gpu-hook: the front was not built (no working C compiler); the Python stub takes its place",
                file=sys.stderr,
            )

    def get_outputs(self) -> list[str]:
        return [self.output] if os.path.exists(self.output) else []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return sorted(
            os.path.join(SOURCES, name) for name in os.listdir(SOURCES) if name.endswith((".c", ".h", ".py", ".sh"))
        )


class BuildPy(BaseBuildPy):
    """The usual build of the package, with the page of errors that `oci-gpu help CODE` shows."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file(ERRORS, os.path.join(self.build_lib, "oci_gpu_hook/admin/cli/errors.md"))


def shared_files(directory: str) -> Iterator[tuple[str, list[str]]]:
    """Make what is read from PREFIX/share, and yield it by place: man pages, completion, schemas."""
    environment = {**os.environ, "PYTHONPATH": os.path.abspath(os.curdir)}
    manuals = os.path.join(directory, "man")
    subprocess.run([sys.executable, "package/manuals.py", manuals], check=True, env=environment)
    for name in sorted(os.listdir(manuals)):
        yield f"share/man/man{name[-1]}", [os.path.join(manuals, name)]
    for shell, place in COMPLETIONS.items():
        path = os.path.join(directory, shell, os.path.basename(place))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "completion", shell]
            subprocess.run(command, check=True, env=environment, stdout=file)
        yield os.path.dirname(place), [path]
    yield "share/doc/oci-gpu-hook/schemas", sorted(f"schemas/{name}" for name in os.listdir("schemas"))


class Build(BaseBuild):
    """The usual build, and the front."""

    sub_commands = [*BaseBuild.sub_commands, ("build_front", None)]


class Wheel(BaseWheel):
    """A wheel for this machine's architecture and any Python where it holds the front, else for all."""

    def run(self) -> None:
        self.run_command("build_front")
        self.distribution.data_files = list(shared_files("build/share"))
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        platform = super().get_tag()[2]
        if platform == "any" and self.get_finalized_command("build_front").get_outputs():
            platform = get_platform().replace("-", "_").replace(".", "_")
        return "py3", "none", platform


setup(cmdclass={"build": Build, "build_py": BuildPy, "build_front": BuildFront, "bdist_wheel": Wheel})
