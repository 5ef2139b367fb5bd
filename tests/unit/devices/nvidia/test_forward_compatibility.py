"""Which libcuda a container uses: NVIDIA's cases as data, and what is decided beyond them."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.devices.nvidia import forward_compatibility
from oci_gpu_hook.devices.nvidia.forward_compatibility import Decision, Note
from oci_gpu_hook.devices.nvidia.image_facts import CompatLibrary
from tests.paths import DATA

DIRECTORY = "/usr/local/cuda/compat"
NOTE = '{"format":1,"CUDA version":"12.9","driver":[535,550,560,565,570,575],"device":[1,2,7,8,9]}'

with open(DATA / "compat_cases.json") as file:
    CASES = json.load(file)
DIRECTORY_CASES = [case for case in CASES if case["kind"] == "cuda_compat_dir"]
USE_CASES = [case for case in CASES if case["kind"] == "cuda_compat_use"]


def libraries(*names: str, note: str = "", directory: str = DIRECTORY) -> tuple[CompatLibrary, ...]:
    """Return what an image looks like that has these files; only libcuda's own file has a note."""
    return tuple(
        CompatLibrary(path=f"{directory}/{name}", note=note if name.startswith("libcuda.so.") else "") for name in names
    )


def resolved(path: str, links: dict[str, str]) -> str:
    """Follow the symbolic links of a case's rootfs, all of which are absolute and on directories."""
    for link, target in links.items():
        if path.startswith(link + "/"):
            return resolved(target + path.removeprefix(link), links)
    return path


def listed(rootfs_files: dict[str, str], compat_root: str) -> tuple[CompatLibrary, ...]:
    """List the compat directory of a case's rootfs as image.py does; its files are empty, so without notes."""
    links = {path: value.removeprefix("symlink=") for path, value in rootfs_files.items() if "symlink=" in value}
    directory = resolved(compat_root + "/", links).rstrip("/")
    return tuple(
        CompatLibrary(path=path, note="", regular=path not in links)
        for path in sorted(rootfs_files)
        if os.path.dirname(path) == directory
    )


@pytest.mark.parametrize("case", DIRECTORY_CASES, ids=lambda case: case["id"])
def test_the_directory_that_nvidia_would_use(case):
    given = case["input"]
    image = listed(given["rootfs_files"], given["compat_root"])
    decision = forward_compatibility.decide(
        image, given["host_driver_version"], given.get("host_cuda_version", ""), "hook"
    )
    assert decision.directory == case["expected"]["compat_dir"]
    assert bool(decision.entries) == bool(decision.directory)


@pytest.mark.parametrize("case", USE_CASES, ids=lambda case: case["id"])
def test_what_nvidia_reads_from_the_note(case):
    given = case["input"]
    note = forward_compatibility.parse_note(json.dumps(given["elf_note"]))
    assert note
    used, why = forward_compatibility.by_note(note, given["compat_driver"], given["host_driver"], given["host_cuda"])
    assert used == case["expected"]["use_compat"]
    assert why


def test_an_image_without_such_libraries_is_nothing_to_speak_of():
    assert forward_compatibility.decide((), "550.54.14", "12.4", "ldconfig") == Decision()


@pytest.mark.parametrize("mode", ["ldconfig", "mount", "hook"])
def test_libraries_newer_than_the_driver_come_first_in_the_cache(mode):
    image = libraries(
        "libcuda.so.1", "libcuda.so.575.57.08", "libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4", note=NOTE
    )
    decision = forward_compatibility.decide(image, "550.54.14", "12.4", mode)
    assert decision.directory == DIRECTORY
    assert dict(decision.entries) == {
        "libcuda.so.1": f"{DIRECTORY}/libcuda.so.1",
        "libcuda.so": f"{DIRECTORY}/libcuda.so.575.57.08",  # or a program that loads by this name gets the host's
        "libcuda.so.575.57.08": f"{DIRECTORY}/libcuda.so.575.57.08",
        "libnvidia-ptxjitcompiler.so.1": f"{DIRECTORY}/libnvidia-ptxjitcompiler.so.1",
        "libnvidia-nvvm.so.4": f"{DIRECTORY}/libnvidia-nvvm.so.4",
    }
    assert decision.reason == (
        "the image's CUDA compatibility libraries (libcuda 575.57.08) are used: "
        "they are newer than the host's driver 550.54.14, and work with its branch"
    )


def test_libraries_of_other_directories_are_left_alone():
    image = libraries("libcuda.so.575.57.08") + libraries("libevil.so.1", directory="/elsewhere")
    assert [
        path for _, path in forward_compatibility.decide(image, "550.54.14", "", "hook").entries if "elsewhere" in path
    ] == []


def test_a_link_beside_the_file_is_no_second_version():
    link = CompatLibrary(path=f"{DIRECTORY}/libcuda.so.1.1", note="", regular=False)
    assert (
        forward_compatibility.decide((link, *libraries("libcuda.so.575.57.08")), "550.54.14", "", "hook").directory
        == DIRECTORY
    )


@pytest.mark.parametrize(
    ("image", "driver", "mode", "why"),
    [
        (libraries("libcuda.so.575.57.08", note=NOTE), "550.54.14", "disabled", "cuda-compat-mode is disabled"),
        (
            libraries("libcuda.so.1", "libnvidia-nvvm.so.4"),
            "550.54.14",
            "hook",
            "has 0 files libcuda.so.VERSION, and one is",
        ),
        (
            libraries("libcuda.so.575.57.08", "libcuda.so.580.65.06"),
            "550.54.14",
            "hook",
            "has 2 files libcuda.so.VERSION, and one is",
        ),
        (libraries("libcuda.so.575.57.08", note=NOTE), "545.23.06", "hook", "of the host's branch 545"),
        (
            libraries("libcuda.so.575.57.08", note=NOTE),
            "575.57.08",
            "hook",
            "no newer than the host's driver 575.57.08",
        ),
        (
            libraries("libcuda.so.575.57.08", note=NOTE),
            "575.144.3",
            "hook",
            "no newer than the host's driver 575.144.3",
        ),
        (libraries("libcuda.so.575.57.08"), "575.51.03", "hook", "no later than that of the host's driver 575.51.03"),
        (libraries("libcuda.so.575.57.08"), "", "hook", "cannot be compared"),
        (
            libraries("libcuda.so.x.y"),
            "550.54.14",
            "hook",
            "(libcuda 'x.y') are not used: their version cannot be compa",
        ),
    ],
)
def test_the_host_s_libraries_are_kept_and_it_is_said_why(image, driver, mode, why):
    decision = forward_compatibility.decide(image, driver, "12.4", mode)
    assert (decision.directory, decision.entries) == ("", ())
    assert why in decision.reason


@pytest.mark.parametrize(("driver", "used"), [("99.1", True), ("100.1", True), ("1000.1", False)])
def test_branches_compare_as_numbers(driver, used):
    assert forward_compatibility.by_branch("575.57.08", driver)[0] == used


def test_the_cuda_version_does_not_change_an_answer_that_the_driver_version_gave():
    for cuda in ("", "12.4", "13.9"):
        assert forward_compatibility.decide(
            libraries("libcuda.so.575.57.08", note=NOTE), "550.54.14", cuda, "hook"
        ).directory
        assert forward_compatibility.decide(libraries("libcuda.so.575.57.08"), "550.54.14", cuda, "hook").directory


@pytest.mark.parametrize(
    ("cuda", "used"), [("12.8", True), ("12.9", False), ("12.9.0", False), ("12.10", False), ("", False), ("x", False)]
)
def test_without_a_driver_version_the_cuda_version_decides(cuda, used):
    assert (
        bool(forward_compatibility.decide(libraries("libcuda.so.1.1", note=NOTE), "", cuda, "hook").directory) == used
    )


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", None),
        ("{}", Note()),
        ('{"CUDA Version": "13.1", "Driver": [535]}', Note(cuda_version="13.1", driver_branches=(535,))),
        ('{"cuda version": null, "driver": null}', Note()),
        ('{"format":1,"CUDA version":"13.2",}', None),
        ('{"driver": ["535"]}', None),
        ('{"driver": [535.0]}', None),
        ('{"driver": [true]}', None),
        ('{"driver": 535}', None),
        ('{"cuda version": 13.2}', None),
        ("[535]", None),
        ("null", None),
        ("[" * 60_000, None),
        ('{"driver": [\ud800]}', None),
    ],
)
def test_notes(text, note):
    assert forward_compatibility.parse_note(text) == note


def test_a_note_that_cannot_be_read_counts_as_none():
    assert forward_compatibility.decide(libraries("libcuda.so.575.57.08", note="{"), "550.54.14", "", "hook").directory


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("575.57.08", (575, 57, 8)),
        ("12.10", (12, 10)),
        ("12.0.0", (12,)),
        ("0", (0,)),
        ("", None),
        ("12.", None),
        ("12.x", None),
        ("-1", None),
        ("٣", None),
        ("1" * 65, None),
    ],
)
def test_versions(text, version):
    assert forward_compatibility.parse_version(text) == version
