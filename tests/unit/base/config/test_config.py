"""config.toml: what it means, what is wrong with it, and the compiled form that spares reading it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config import compiled as compiled_forms
from oci_gpu_hook.base.config import load as load_module
from oci_gpu_hook.base.config import source
from oci_gpu_hook.base.config.load import load, load_or_defaults
from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES, Config
from oci_gpu_hook.base.config.toml import parse
from oci_gpu_hook.base.errors import ConfigError
from tests.paths import ROOT

EVERY_KEY = """
[driver]
root = "/run/nvidia/driver/"
dev-root = "/host"
proc-root = "/host/proc"
sys-root = "/host/sys"
library-search-paths = ["/opt/lib", "/opt/lib64/"]
[request]
accept-nvidia-visible-devices-envvar-when-unprivileged = false
accept-nvidia-visible-devices-as-volume-mounts = true
swarm-resource = "DOCKER_RESOURCE_GPU, DOCKER_RESOURCE_X"
supported-driver-capabilities = "utility, compute"
disable-require = true
cuda-compat-mode = "disabled"
[allocation]
policy = "exclusive"
[state]
dir = "/var/lib/state"
[log]
level = "debug"
file = "/var/log/gpu.log"
journal = false
"""


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Where compiled forms go in these tests."""
    monkeypatch.setattr(compiled_forms, "DIRECTORY", (str(tmp_path / "run"), "config"))
    return tmp_path / "run" / "config"


def write(path, text):
    """Write a configuration that has settled: not changed within the clock's last ticks."""
    path.write_text(text)
    time.sleep(0.11)
    return str(path)


def test_nothing_is_the_defaults():
    assert parse("") == Config()


def test_every_key():
    assert parse(EVERY_KEY) == Config(
        driver_root="/run/nvidia/driver",
        dev_root="/host",
        proc_root="/host/proc",
        sys_root="/host/sys",
        library_search_paths=("/opt/lib", "/opt/lib64"),
        accept_envvar_when_unprivileged=False,
        accept_volume_mounts=True,
        swarm_resource=("DOCKER_RESOURCE_GPU", "DOCKER_RESOURCE_X"),
        supported_driver_capabilities=("compute", "utility"),
        disable_require=True,
        cuda_compat_mode="disabled",
        allocation_policy="exclusive",
        state_dir="/var/lib/state",
        log_level="debug",
        log_file="/var/log/gpu.log",
        log_journal=False,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", DRIVER_CAPABILITIES),
        ("compute,all", DRIVER_CAPABILITIES),
        ("", ()),
        (" , ", ()),
        ("video,compute,video", ("compute", "video")),
    ],
)
def test_supported_driver_capabilities(value, expected):
    text = f'supported-driver-capabilities = "{value}"'
    assert parse(text).supported_driver_capabilities == expected


def test_nvidias_file_can_be_pasted():
    config = parse("""
disable-require = true
supported-driver-capabilities = "compute,utility"
swarm-resource = "DOCKER_RESOURCE_GPU"
accept-nvidia-visible-devices-as-volume-mounts = true

[nvidia-container-cli]
load-kmods = true
ldconfig = "@/sbin/ldconfig"

[nvidia-container-runtime.modes.cdi]
default-kind = "nvidia.com/gpu"
""")
    assert (config.disable_require, config.accept_volume_mounts) == (True, True)
    assert config.swarm_resource == ("DOCKER_RESOURCE_GPU",)
    assert config.warnings == (
        "line 7: [nvidia-container-cli] is NVIDIA's section and is not used here",
        "line 11: [nvidia-container-runtime] is NVIDIA's section and is not used here",
    )


def test_the_section_wins_over_the_top():
    config = parse("disable-require = true\n[request]\ndisable-require = false\n")
    assert config.disable_require is False
    assert config.warnings == ("line 1: disable-require is also set in [request], which wins",)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('[driver]\nroot = "/"\nrooot = "/"\n', "line 3: unknown key 'rooot' in [driver]; did you mean 'root'?"),
        ("disable-requires = true", "line 1: unknown key 'disable-requires'; did you mean 'disable-require'?"),
        ("[drivers]\n", "line 1: unknown key 'drivers'; did you mean 'driver'?"),
        ('policy = "exclusive"', "line 1: unknown key 'policy'; did you mean it below [allocation]?"),
        ('[log]\npolicy = "shared"', "line 2: unknown key 'policy' in [log]; did you mean it below [allocation]?"),
        ('zzz = "\\u001b[31m"', "line 1: unknown key 'zzz'"),
        ('[log]\n"\\u001b[31m" = 1', "unknown key '\\x1b[31m' in [log]"),
    ],
)
def test_unknown_keys_are_warned_of(text, warning):
    assert parse(text).warnings == (warning,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("driver = 3", "configuration: driver: expected a section, [driver], found 3"),
        ("[driver]\nroot = 3", "configuration: [driver] root: expected a string, found 3"),
        ('[driver]\nroot = ""', "configuration: [driver] root: expected an absolute path, found ''"),
        ('[driver]\nroot = "driver"', "[driver] root: expected an absolute path, found 'driver'"),
        ('[driver]\nroot = "/a\\u0000b"', "[driver] root: expected a string, found '/a\\x00b'"),
        ('[driver]\nlibrary-search-paths = "/lib"', "expected a list of absolute paths, found '/lib'"),
        ('[driver]\nlibrary-search-paths = ["/lib", 3]', "library-search-paths: expected a string, found 3"),
        ("disable-require = 1", "configuration: disable-require: expected true or false, found 1"),
        ('[request]\ndisable-require = "true"', "[request] disable-require: expected true or false, found 'true'"),
        ('supported-driver-capabilities = "compute,bogus"', 'expected "all" or a list of compat32, compute, '),
        ('supported-driver-capabilities = ["compute"]', "expected a string, found ['compute']"),
        ('cuda-compat-mode = "auto"', "expected one of ldconfig, mount, disabled, hook, found 'auto'"),
        ('[allocation]\npolicy = "fair"', "[allocation] policy: expected one of shared, exclusive, found 'fair'"),
        ("[log]\nlevel = true", "[log] level: expected one of debug, info, warning, error, found True"),
        ("root = [", "configuration: is not TOML: "),
        ("a = " + "[" * 5000, "configuration: is not TOML: "),
        ("a = 1\na = 2", "configuration: is not TOML: Cannot overwrite a value"),
    ],
)
def test_errors_name_the_key_and_what_was_found(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def validator():
    with open(os.path.join(ROOT, "schemas", "config.schema.json")) as file:
        document = json.load(file)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


VALUES = st.sampled_from(
    [
        True,
        False,
        0,
        1,
        "",
        "/",
        "/a",
        "a",
        "all",
        "compute,utility",
        "bogus",
        "hook",
        "shared",
        "info",
        [],
        ["/a"],
        ["a"],
        {},
    ]
)


@settings(max_examples=300)
@given(
    st.sampled_from(["", "driver", "request", "allocation", "state", "log"]),
    st.sampled_from(
        [
            "root",
            "dev-root",
            "library-search-paths",
            "swarm-resource",
            "supported-driver-capabilities",
            "disable-require",
            "cuda-compat-mode",
            "policy",
            "dir",
            "level",
            "file",
            "accept-nvidia-visible-devices-as-volume-mounts",
            "unknown",
        ]
    ),
    VALUES,
)
def test_schema_and_parser_agree(section, key, value):
    if isinstance(value, dict):
        text = f"[{section}.{key}]\n" if section else f"[{key}]\n"
    else:
        text = (f"[{section}]\n" if section else "") + f"{key} = {json.dumps(value)}\n"
    try:
        parse(text)
        accepted = True
    except ConfigError:
        accepted = False
    assert accepted == validator().is_valid(tomllib.loads(text)), text


@pytest.mark.parametrize("name", ["none.toml", "file/config.toml"])
def test_load_without_the_usual_file_gives_the_defaults(tmp_path, compiled, monkeypatch, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"does not exist|is not a directory"):
        load(str(tmp_path / name))
    monkeypatch.setattr(load_module, "DEFAULT_PATH", str(tmp_path / name))
    assert load(str(tmp_path / name)) == Config()
    assert not compiled.exists()


def test_load_compiles_once(tmp_path, compiled, monkeypatch):
    path = write(tmp_path / "a%b.toml", EVERY_KEY + "[zzz]\n")
    first = load(path)
    assert os.listdir(compiled) == [path.replace("%", "%25").replace("/", "%2F") + ".json"]
    monkeypatch.setattr(source, "load", None)
    assert load(path) == first
    assert first.warnings
    assert first.driver_root == "/run/nvidia/driver"


def test_a_changed_file_is_read_again(tmp_path, compiled):
    path = write(tmp_path / "config.toml", '[log]\nlevel = "debug"\n')
    assert load(path).log_level == "debug"
    write(tmp_path / "config.toml", '[log]\nlevel = "error"\n')  # as many bytes
    assert load(path).log_level == "error"


def test_a_file_changed_just_now_is_not_compiled(tmp_path, compiled):
    (tmp_path / "config.toml").write_text('[log]\nlevel = "debug"\n')
    assert load(str(tmp_path / "config.toml")).log_level == "debug"
    assert not compiled.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b'{"made": []}', b"\xff", b"{" * 100_000])
def test_a_damaged_compiled_form_is_made_anew(tmp_path, compiled, damage):
    path = write(tmp_path / "config.toml", '[log]\nlevel = "debug"\n')
    load(path)
    (file,) = compiled.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage)
    assert load(path).log_level == "debug"
    assert file.read_bytes() == good


@pytest.mark.parametrize("values", [None, [], {"log_level": "error", "zzz": 1}])
def test_values_of_another_form_are_not_used(tmp_path, compiled, values):
    path = write(tmp_path / "config.toml", '[log]\nlevel = "debug"\n')
    load(path)
    (file,) = compiled.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "values": values}))
    assert load(path).log_level == "debug"


@pytest.mark.parametrize("change", ["writable", "foreign", "link"])
def test_a_compiled_form_that_others_could_have_written_is_not_read(tmp_path, compiled, change):
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    path = write(tmp_path / "config.toml", '[log]\nlevel = "debug"\n')
    load(path)
    (file,) = compiled.iterdir()
    forged = file.read_text().replace('"debug"', '"error"')
    assert forged != file.read_text()
    if change == "link":
        (tmp_path / "forged").write_text(forged)
        file.unlink()
        file.symlink_to(tmp_path / "forged")
    else:
        file.write_text(forged)
        file.chmod(0o666 if change == "writable" else 0o600)
        os.chown(file, 0 if change == "writable" else 12345, 0)
    assert load(path).log_level == "debug"


def test_a_compiled_form_that_cannot_be_stored_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("")
    monkeypatch.setattr(compiled_forms, "DIRECTORY", (str(tmp_path / "occupied"), "config"))
    path = write(tmp_path / "config.toml", '[log]\nlevel = "debug"\n')
    assert load(path).log_level == "debug"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b'[log]\nlevel = "\xff"'), "is not UTF-8 at byte 15"),
        (lambda path: path.write_bytes(b"#" * (limits.CONFIG_TOML + 1)), "is larger than 262144 bytes"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, compiled, make, message):
    make(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match=message):
        load(str(tmp_path / "config.toml"))


def test_errors_of_a_file_name_it(tmp_path, compiled):
    (tmp_path / "config.toml").write_text("disable-require = 1")
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "config.toml"))
    assert str(caught.value).startswith(
        f"'{tmp_path}/config.toml': disable-require: expected true or false, found 1 (line 1); "
    )


def test_a_path_with_a_nul_byte_is_an_error(compiled):
    with pytest.raises(ConfigError, match="is not a valid path"):
        load("/etc/\0")


def test_a_compiled_form_needs_no_toml(tmp_path):
    path = write(tmp_path / "config.toml", EVERY_KEY)
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from oci_gpu_hook.base.config import compiled, load as config
compiled.DIRECTORY = ({str(tmp_path / "run")!r}, "config")
before = config.load({path!r})
for name in [n for n in sys.modules if n == "tomllib" or n.startswith(("tomllib.", "oci_gpu_hook.base.config.toml"))]:
    del sys.modules[name]
assert config.load({path!r}) == before
print(*sorted(n for n in sys.modules if "toml" in n))
"""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


def test_what_is_wrong_comes_with_the_defaults(tmp_path, compiled):
    path = write(tmp_path / "config.toml", "[driver]\nroot = 1\n")
    config, trouble = load_or_defaults(path)
    assert config == Config()
    assert isinstance(trouble, ConfigError)
    assert "root" in str(trouble)
    path = write(tmp_path / "config.toml", '[driver]\nroot = "/driver"\n')
    assert load_or_defaults(path) == (Config(driver_root="/driver"), None)
    config, trouble = load_or_defaults("/nonexistent/config.toml")
    assert config == Config()
    assert "does not exist" in str(trouble)
