"""A host that cannot serve GPUs: who asks for one is told why in one line, who asks for none never notices."""

from __future__ import annotations

import os
import re
import shutil

import pytest


def _no_kernel_driver(host):
    shutil.rmtree(host.proc)


def _no_driver_files(host):
    for path in host.libraries("lib*.so.*"):
        path.unlink()


def _no_driver_root(host):
    shutil.rmtree(host.driver_root)


def _other_version(host):
    installed = host.driver_version
    for file in (host.proc / "version", host.module_version):
        file.write_text(file.read_text().replace(installed, "418.226.00"))


def _no_gpu_node(host):
    (host.dev / "nvidia0").unlink()


def _no_control_node(host):
    (host.dev / "nvidiactl").unlink()


def _a_node_that_is_a_file(host):
    (host.dev / "nvidia0").unlink()
    (host.dev / "nvidia0").touch()


def _config_that_is_no_toml(host):
    host.config.write_text("[driver\nroot = ")


def _config_of_wrong_types(host):
    host.config.write_text("[driver]\nroot = 3\n")


# what is broken → words that must be in the line
TROUBLES = {
    "no kernel driver": (_no_kernel_driver, r"driver"),
    "no driver files": (_no_driver_files, r"libnvidia-ml|libcuda|librar"),
    "no driver root": (_no_driver_root, r"librar|driver"),
    "other version": (_other_version, r"418\.226\.00"),
    "no GPU node": (_no_gpu_node, r"/dev/nvidia0"),
    "no control node": (_no_control_node, r"/dev/nvidiactl"),
    "node that is a file": (_a_node_that_is_a_file, r"/dev/nvidia0"),
    "config is not TOML": (_config_that_is_no_toml, r"config\.toml"),
    "config of wrong types": (_config_of_wrong_types, r"root"),
}


@pytest.fixture(params=TROUBLES)
def broken(request, simulated, directory):
    """A copy of the simulated host with one thing wrong, and what the error has to mention."""
    host = simulated.copy(directory / "host")
    version = host.driver_version
    config = host.config
    break_it, words = TROUBLES[request.param]
    break_it(host)
    return request.param, config, words, version


def test_who_asks_is_told_why(runtime, make_bundle, broken):
    trouble, config, words, version = broken
    complaint = runtime.run(make_bundle("list=/", gpus="0", config=config)).complaint()
    assert re.search(words, complaint), complaint
    assert re.fullmatch(r".+: .+; .+", complaint), "what: why; remedy"
    if trouble == "other version":
        assert version in complaint, "a mismatch names both versions"


def test_who_asks_for_nothing_runs(runtime, make_bundle, broken):
    _, config, _, _ = broken
    result = runtime.run(make_bundle("list=/dev", config=config))
    assert not any(name.startswith("nvidia") for name in result.seen()["list=/dev"])
    assert result.stderr == ""


def test_a_host_that_is_mended_serves_at_once(runtime, make_bundle, simulated, directory):
    host = simulated.copy(directory / "host")
    node = host.dev / "nvidia0"
    info = os.lstat(node)
    node.unlink()
    runtime.run(make_bundle("open=/dev/nvidia0", gpus="0", config=host.config, name="before")).complaint()
    os.mknod(node, info.st_mode, info.st_rdev)
    bundle = make_bundle("open=/dev/nvidia0", gpus="0", config=host.config, name="after")
    assert runtime.run(bundle).seen()["open=/dev/nvidia0"] == "ENXIO"


def test_a_driver_that_changes_is_noticed_at_the_next_container(runtime, make_bundle, simulated, directory):
    host = simulated.copy(directory / "host")
    first = make_bundle("open=/dev/nvidia0", gpus="0", config=host.config, name="before")
    assert runtime.run(first).seen()["open=/dev/nvidia0"] == "ENXIO"
    _other_version(host)
    again = make_bundle("open=/dev/nvidia0", gpus="0", config=host.config, name="after")
    assert "418.226.00" in runtime.run(again).complaint()


@pytest.mark.parametrize(
    ("env", "word"),
    [
        (("NVIDIA_VISIBLE_DEVICES=7",), "7"),
        (("NVIDIA_VISIBLE_DEVICES=0,7",), "7"),
        (("NVIDIA_VISIBLE_DEVICES=GPU-00000000-0000-0000-0000-000000000000",), "GPU-00000000"),
        (("NVIDIA_VISIBLE_DEVICES=0-1",), "0-1"),
        (("NVIDIA_VISIBLE_DEVICES=../0",), r"\.\./0"),
        (("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,bogus"), "bogus"),
    ],
    ids=lambda value: value[-1].partition("=")[2] if isinstance(value, tuple) else "",
)
def test_unknown_names_are_refused_by_name(runtime, make_bundle, env, word):
    complaint = runtime.run(make_bundle("list=/", env=env)).complaint()
    assert re.search(word, complaint), complaint


def test_a_name_with_control_characters_stays_one_line(runtime, make_bundle):
    wish = ("NVIDIA_VISIBLE_DEVICES=0\n\x1b[31moci-gpu-hook: all is well\x07",)
    result = runtime.run(make_bundle("list=/", env=wish))
    assert result.status != 0
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr
