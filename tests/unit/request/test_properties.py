"""No environment, annotation, mount list or configuration makes the parser crash, hang, or answer a thing not asked."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES, Config
from oci_gpu_hook.base.errors import HookError, InvalidInput
from oci_gpu_hook.devices.nvidia.requirements import Host, check, needs_nvml, unsatisfied
from oci_gpu_hook.request.json_form import to_json
from oci_gpu_hook.request.parse import parse, read
from tests.paths import SCHEMAS
from tests.unit.request.texts import annotation_sets, container, entries, mounts, values

SCHEMA = SCHEMAS / "request.schema.json"
configs = st.builds(
    Config,
    accept_envvar_when_unprivileged=st.booleans(),
    accept_volume_mounts=st.booleans(),
    swarm_resource=st.sampled_from([(), ("SWARM",), ("SWARM", "SWÄRM"), ("NVIDIA_VISIBLE_DEVICES",)]),
    supported_driver_capabilities=st.sampled_from([DRIVER_CAPABILITIES, (), ("video",), ("compute", "utility")]),
    disable_require=st.booleans(),
)
containers = st.builds(
    container, env=st.lists(entries, max_size=6), mounts=mounts, annotations=annotation_sets, privileged=st.booleans()
)


def answer(function):
    """Return what a function returns, and the HookError that it raises instead."""
    try:
        return function(), None
    except HookError as error:
        return None, error


def in_words(error):
    """Tell whether an error is one line of what, why and remedy, whatever text of others it quotes."""
    return str(error).isprintable() and all((error.what, error.why, error.remedy))


@pytest.fixture(scope="module")
def validator():
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@settings(max_examples=600)
@given(found=containers, config=configs)
def test_parse_answers_or_refuses_in_words(validator, found, config):
    request, refusal = answer(lambda: parse(found, config))
    assert refusal is None or (isinstance(refusal, InvalidInput) and in_words(refusal))
    if request is None:
        return
    validator.validate(to_json(request))
    assert set(request.driver_capabilities) <= set(config.supported_driver_capabilities)
    assert request.count is None or request.count > 0
    assert not (request.count is not None and len(request.devices) > 1)
    assert "" not in request.devices
    assert "void" not in request.devices
    assert "none" not in request.devices


# Whatever else stands there, these ask for no GPU: no source has a word on devices.
SILENT = ("NVIDIA_VISIBLE_DEVICES", "OCI_GPU_COUNT", "CUDA_VERSION", "SWARM", "SWÄRM")


@settings(max_examples=400)
@given(
    env=st.lists(entries.filter(lambda entry: entry.partition("=")[0] not in SILENT), max_size=6),
    noted=annotation_sets,
    config=configs,
    privileged=st.booleans(),
)
def test_who_asks_for_no_gpu_never_fails(env, noted, config, privileged):
    noted = {
        key: value for key, value in noted.items() if not key.endswith((".devices", ".count")) and "cdi" not in key
    }
    assert parse(container(env, annotations=noted, privileged=privileged), config) is None


@settings(max_examples=300)
@given(
    env=st.lists(entries, max_size=5), noted=annotation_sets.map(lambda a: {k: v for k, v in a.items() if k == "other"})
)
def test_void_ends_every_request_by_variables(env, noted):
    env = [*(entry for entry in env if not entry.startswith("SW")), "NVIDIA_VISIBLE_DEVICES=0,void,1"]
    assert parse(container(env, annotations=noted), Config()) is None


@settings(max_examples=300)
@given(env=st.lists(entries, max_size=6))
def test_policy_keeps_unprivileged_containers_from_asking_by_variables(env):
    config = Config(accept_envvar_when_unprivileged=False, swarm_resource=("SWARM",))
    reading = read(container(env), config)
    assert reading.request is None


@settings(max_examples=300)
@given(indices=st.lists(st.integers(0, 99), min_size=1, max_size=8), blanks=st.lists(st.sampled_from(["", " ", "\t"])))
def test_a_list_gives_neither_fewer_nor_more(indices, blanks):
    listed = ",".join(f" {index}\t" for index in indices) + "," + ",".join(blanks)
    request = parse(container([f"NVIDIA_VISIBLE_DEVICES={listed}"]), Config())
    assert request
    assert request.devices == tuple(dict.fromkeys(map(str, indices)))


@settings(max_examples=400)
@given(
    requirement=st.one_of(values, st.text("cudabrnh<>=!0123456789., ", max_size=30)),
    host=st.builds(Host, driver=values, cuda=values, arch=values, brand=values),
)
def test_any_requirement_holds_or_not(requirement, host):
    complaint = unsatisfied(requirement, host)
    assert complaint is None or complaint.startswith(("invalid expression", "unsatisfied condition: "))
    if not needs_nvml([requirement]):
        assert unsatisfied(requirement, Host(driver=host.driver, cuda=None, arch=None, brand=None)) == complaint
    _, refusal = answer(lambda: check([requirement], host.driver, host.cuda, ()))
    assert refusal is None or in_words(refusal)
