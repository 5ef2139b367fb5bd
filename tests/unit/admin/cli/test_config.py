"""`oci-gpu config`: the configuration in force, what is wrong with the file, and a file with the defaults."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse

OTHERS = """
[driver]
library-search-paths = ["/opt/a", "/opt/b"]
volume = "/usr/local/nvidia"
[request]
swarm-resource = "A,B"
supported-driver-capabilities = "utility,compute"
disable-require = true
[allocation]
exclude = ["0", "GPU-\\"x", "NVIDIA H100"]
longest-wait = "10m"
[cdi]
spec-dirs = []
[log]
file = "/var/log/\\u00e9"
"""


@pytest.fixture
def config(tmp_path, capsys):
    """Run `oci-gpu config` on a file with this text; returns exit status, stdout and stderr."""

    def run(text: str, *options: str):
        file = tmp_path / "config.toml"
        file.write_text(text)
        status = main.main(["--config", str(file), "config", *options])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("options", [(), ("--show",)])
def test_what_is_shown_means_the_same(config, options):
    status, shown, complaint = config(OTHERS, *options)
    assert (status, complaint) == (0, "")
    assert parse(shown) == parse(OTHERS)
    assert 'longest-wait = "600s"\n' in shown
    assert 'policy = "shared"  # default\n' in shown


def test_the_defaults(config):
    status, shown, _ = config(OTHERS, "--default")
    assert (status, parse(shown)) == (0, Config())
    assert "#" not in shown


def test_a_good_file(config):
    status, shown, complaint = config(OTHERS, "--check")
    assert (status, complaint) == (0, "")
    assert shown.endswith("config.toml: no errors\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[alocation]\n", "unknown key 'alocation'; did you mean 'allocation'?"),
        ('[allocation]\npolicy = "mine"\n', "expected one of shared, exclusive, found 'mine' (line 2)"),
        ("[allocation", "is not TOML"),
    ],
)
def test_a_bad_file(config, text, said):
    status, shown, complaint = config(text, "--check")
    assert (status, shown) == (1, "")
    assert said in complaint


def test_no_file_at_the_usual_place(capsys, monkeypatch, tmp_path):
    path = str(tmp_path / "none.toml")
    monkeypatch.setattr("oci_gpu_hook.base.config.load.DEFAULT_PATH", path)
    assert main.main(["--config", path, "config", "--check"]) == 0
    assert "does not exist; the defaults are used" in capsys.readouterr().out
