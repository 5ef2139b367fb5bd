"""The build step that pyproject.toml cannot say: the front, compiled wherever a C compiler is found."""

from __future__ import annotations

import os
import subprocess
import sys
from sysconfig import get_platform

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel as BaseWheel
from setuptools.command.build import build as BaseBuild

TEMPLATE = "oci_gpu_hook/admin/install/front.elf"
SOURCES = "front"


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


class Build(BaseBuild):
    """The usual build, and the front."""

    sub_commands = [*BaseBuild.sub_commands, ("build_front", None)]


class Wheel(BaseWheel):
    """A wheel for this machine's architecture and any Python where it holds the front, else for all."""

    def run(self) -> None:
        self.run_command("build_front")
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        platform = super().get_tag()[2]
        if platform == "any" and self.get_finalized_command("build_front").get_outputs():
            platform = get_platform().replace("-", "_").replace(".", "_")
        return "py3", "none", platform


setup(cmdclass={"build": Build, "build_front": BuildFront, "bdist_wheel": Wheel})
