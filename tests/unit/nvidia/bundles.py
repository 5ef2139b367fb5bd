"""From a case of NVIDIA's interface to a bundle, a state and a configuration for this project."""

from __future__ import annotations

import json

from oci_gpu_hook.apply.process import check_process
from oci_gpu_hook.base.config import toml as config_toml
from oci_gpu_hook.oci import container
from oci_gpu_hook.request import parse

BUNDLE = "/run/bundle"
MOUNTS = "/var/run/nvidia-container-devices"
ALL_CAPABILITIES = "compat32,compute,display,graphics,ngx,utility,video"


def config_json(env=(), mounts=(), annotations=None, *, privileged=False):
    bounding = ["CAP_SYS_ADMIN"] if privileged else []
    entries = [f"{name}={value}" for name, value in env.items()] if isinstance(env, dict) else list(env or ())
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": {"env": entries, "capabilities": {"bounding": bounding}},
            "root": {"path": "rootfs"},
            "mounts": list(mounts),
            "annotations": annotations or {},
        }
    )


def state_json(bundle=BUNDLE):
    return json.dumps({"ociVersion": "1.0.2", "id": "c", "status": "created", "pid": 4321, "bundle": bundle})


def toml(keys):
    """Return keys as NVIDIA's config.toml has them; a dict is a section."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in keys.items() if not isinstance(value, dict)]
    for section, values in keys.items():
        if isinstance(values, dict):
            plain += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(plain)


def config_keys(case_config):
    """Return the keys of a case that gives its configuration by the names of the reference's test tables."""
    names = {
        "accept_envvar_unprivileged": "accept-nvidia-visible-devices-envvar-when-unprivileged",
        "accept_volume_mounts": "accept-nvidia-visible-devices-as-volume-mounts",
        "supported_driver_capabilities": "supported-driver-capabilities",
        "swarm_resource": "swarm-resource",
    }
    keys = {names[name]: value for name, value in case_config.items() if name in names}
    if isinstance(keys.get("swarm-resource"), list):
        keys["swarm-resource"] = ",".join(keys["swarm-resource"])
    return keys


class Bundle:
    """What an engine hands over, as texts, and the text of config.toml."""

    def __init__(self, config_text, keys=None, state=None):
        self.config_text = config_text
        self.toml = toml(keys or {})
        self.state = state if state is not None else state_json()

    def container(self):
        state = container.read_state(self.state.encode())
        if state.pid < 1:
            check_process(state.pid)
        return container.parse_config(self.config_text.encode(), state)

    def reading(self):
        return parse.read(self.container(), config_toml.parse(self.toml))


def of_case(case):
    """Return the bundle of a case that has one, None for the others."""
    build = _BUILDERS.get(case["kind"])
    return build(case["input"]) if build else None


def _hook(given):
    text = given.get("config_json_text")
    if text is None:
        text = json.dumps(given["config_json"])
    keys = dict(given.get("config") or {})
    keys |= keys.pop("nvidia-container-runtime.modes.legacy", {})  # cuda-compat-mode is a key of [request] here
    return Bundle(text, keys, given["stdin"].replace("@BUNDLE@", BUNDLE))


def _container_config(given):
    text = config_json(given["env"], given.get("mounts", ()), privileged=given.get("privileged", False))
    return Bundle(text, config_keys(given["config"]))


def _visible_devices(given):
    # These cases are about devices alone, and some have no version in CUDA_VERSION.
    keys = {**config_keys(given["config"]), "disable-require": True}
    annotations = _annotations(given["annotations"], given["config"].get("annotation_prefixes", []))
    return Bundle(
        config_json(given["env"], given["mounts"], annotations, privileged=given.get("privileged", False)), keys
    )


def _driver_capabilities(given):
    legacy = {"CUDA_VERSION": "9.0"} if given["legacy_image"] else {}
    env = {"NVIDIA_VISIBLE_DEVICES": "all", **legacy, **given["env"]}
    return Bundle(config_json(env), {"supported-driver-capabilities": given["supported"]})


def _with_all_gpus(env):
    return Bundle(config_json(["NVIDIA_VISIBLE_DEVICES=all", *env]))


def _annotations(annotations, prefixes):
    """Return annotations with the configured prefixes of the reference in the place of this project's fixed one."""
    changed = {}
    for key, value in (annotations or {}).items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        changed[key if prefix is None else f"cdi.k8s.io/{prefix.strip('/')}_{key.removeprefix(prefix)}"] = value
    return changed


_BUILDERS = {
    "hook_blackbox": _hook,
    "hook_container_config": _container_config,
    "visible_devices": _visible_devices,
    "cdi_device_requests": _visible_devices,
    "visible_devices_from_mounts": lambda given: Bundle(
        config_json((), given["mounts"]), config_keys({"accept_volume_mounts": True})
    ),
    "annotation_devices": lambda given: Bundle(
        config_json(annotations=_annotations(given["annotations"], given["annotation_prefixes"]))
    ),
    "driver_capabilities": _driver_capabilities,
    "requirements_list": lambda given: _with_all_gpus(given["env"]),
    "imex_channels_env": lambda given: _with_all_gpus(given["env"]),
    "imex_channel_id": lambda given: _with_all_gpus([f"NVIDIA_IMEX_CHANNELS={','.join(given['ids'])}"]),
    "jit_cdi_requests": lambda given: Bundle(config_json(given["env"])),
    "graphics_required": lambda given: Bundle(config_json(given["env"])),
}
