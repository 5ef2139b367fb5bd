"""`[allocation] longest-wait`: what the operator allows, whatever a container asks for."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse as read_toml
from oci_gpu_hook.base.errors import ConfigError, InvalidInput
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request import parse

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.json"


def container(env=(), annotations=None):
    return Container(
        id="a", pid=0, bundle="/bundle", rootfs="/bundle/rootfs", root_readonly=False, env=tuple(env), mounts=(),
        annotations=annotations or {}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(),
        gid_mappings=(), cgroups_path="", device_rules=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("longest", "asked", "wait"),
    [
        (None, "999999999h", 999999999 * 3600),
        (600, "999999999h", 600),
        (600, "601", 600),
        (600, "10m", 600),
        (600, "30s", 30),
        (0, "30s", 0),
    ],
)
def test_a_wait_is_cut_to_what_the_host_allows_and_says_so(longest, asked, wait):
    config = Config(allocation_longest_wait=longest)
    by_variable = parse.read(container(["OCI_GPU_COUNT=1", f"OCI_GPU_WAIT={asked}"]), config)
    notes = {"io.oci-gpu-hook.count": "1", "io.oci-gpu-hook.wait": asked}
    by_annotation = parse.read(container(annotations=notes), config)
    assert by_variable.request
    assert by_annotation.request
    assert (by_variable.request.wait, by_annotation.request.wait) == (wait, wait)
    cut = (longest is not None and asked not in ("10m", "30s")) or longest == 0
    for reading, name in ((by_variable, "OCI_GPU_WAIT"), (by_annotation, "io.oci-gpu-hook.wait")):
        said = [text for text in reading.warnings if text.startswith(f"{name}='{asked}' is cut to {longest} s")]
        assert len(said) == cut
        assert not cut or "[allocation] longest-wait" in said[0]


def test_a_wait_that_is_none_is_refused_whatever_the_host_allows():
    with pytest.raises(InvalidInput, match="is not a time"):
        parse.read(container(["OCI_GPU_COUNT=1", "OCI_GPU_WAIT=soon"]), Config(allocation_longest_wait=5))


def test_a_count_below_nothing_is_answered_with_the_range():
    with pytest.raises(InvalidInput, match="write one from 0 to 999999999 in digits"):
        parse.read(container(["OCI_GPU_COUNT=-1"]), Config())


VALUES = {"": None, "0": 0, "90": 90, "90s": 90, "10m": 600, "1h": 3600, " 5m ": 300, "999999999h": 999999999 * 3600}
WRONG = ["-1", "10d", "m", "1.5h", "10 m", "٣", "1000000000", "never"]


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("text", VALUES)
def test_the_key_is_read_and_so_says_the_schema(text, schema):
    assert read_toml(f'[allocation]\nlongest-wait = "{text}"\n').allocation_longest_wait == VALUES[text]
    assert schema.is_valid({"allocation": {"longest-wait": text}})


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_time_is_an_error_with_its_line(text, schema):
    with pytest.raises(ConfigError, match=r"\[allocation\] longest-wait: expected a whole number.*\(line 2\)"):
        read_toml(f'[allocation]\nlongest-wait = "{text}"\n')
    assert not schema.is_valid({"allocation": {"longest-wait": text}})


def test_a_number_is_no_text(schema):
    with pytest.raises(ConfigError, match="expected a string, found 10"):
        read_toml("[allocation]\nlongest-wait = 10\n")
    assert not schema.is_valid({"allocation": {"longest-wait": 10}})
