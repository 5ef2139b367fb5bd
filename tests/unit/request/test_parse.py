"""What this project adds to NVIDIA's interface, and what it says of words that mean less than their author thinks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import oci_gpu_hook
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.oci.container import BundleMount
from oci_gpu_hook.request.parse import parse, read
from tests.unit.request.texts import container

UUID = "GPU-11111111-2222-3333-4444-555555555555"
GIB = 1 << 30


def note(**values):
    return {f"io.oci-gpu-hook.{name}": value for name, value in values.items()}


def of(env=(), *, config=None, privileged=False, mounts=(), **notes):
    return parse(container(env, mounts, note(**notes), privileged=privileged), config or Config())


def warnings_of(env=(), *, config=None, mounts=(), annotations=None, privileged=False):
    return "\n".join(read(container(env, mounts, annotations, privileged=privileged), config or Config()).warnings)


def mount(name):
    destination = f"/var/run/nvidia-container-devices/{name}"
    return BundleMount(destination=destination, source="/dev/null", type="bind", options=())


class TestCount:
    def test_by_annotation(self):
        request = of(count="2", memory="40GiB", exclusive="true", wait="30")
        assert (request.devices, request.count, request.memory) == ((), 2, 40 * GIB)
        assert (request.exclusive, request.wait, request.source) == (True, 30, "annotations")

    def test_by_variable(self):
        env = ["OCI_GPU_COUNT=2", "OCI_GPU_MEMORY=16Gi", "OCI_GPU_EXCLUSIVE=1", "OCI_GPU_WAIT=5"]
        request = of(env)
        assert (request.devices, request.count, request.memory) == ((), 2, 16 * GIB)
        assert (request.exclusive, request.wait, request.source) == (True, 5, "environment")

    @pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("30", 30), ("30s", 30), (" 5m ", 300), ("1h", 3600)])
    def test_wait_is_a_time(self, text, seconds):
        assert of(count="1", wait=text).wait == seconds

    @pytest.mark.parametrize("text", ["s", "-1s", "1.5m", "1d", "1h30m", "٣s", "1000000000s", "1 s"])
    def test_what_is_no_time(self, text):
        with pytest.raises(InvalidInput, match=r"io.oci-gpu-hook.wait=.* is not a time"):
            of(count="1", wait=text)

    @pytest.mark.parametrize(
        "env", [["NVIDIA_VISIBLE_DEVICES=all"], ["NVIDIA_VISIBLE_DEVICES="], ["CUDA_VERSION=9.0"], []]
    )
    def test_narrows_what_the_image_asks_for(self, env):
        request = of([*env, "OCI_GPU_COUNT=1"])
        assert (request.devices, request.count) == ((), 1)

    def test_beside_a_list_of_that_many_the_list_says_which(self):
        request = of(["NVIDIA_VISIBLE_DEVICES=0,1", "OCI_GPU_COUNT=2", "OCI_GPU_MEMORY=40GiB", "OCI_GPU_EXCLUSIVE=1"])
        assert (request.devices, request.count, request.memory) == (("0", "1"), None, 0)
        assert request.exclusive is True
        assert any(text.startswith("OCI_GPU_MEMORY='40GiB' is not read") for text in request.warnings)

    @pytest.mark.parametrize(("devices", "count"), [("0", 1), ("0,1", 2), ("0,1,2,3", 4)])
    def test_indices_of_dockers_are_a_count_where_policy_says_so(self, devices, count):
        env = [f"NVIDIA_VISIBLE_DEVICES={devices}", "OCI_GPU_MEMORY=40GiB", "OCI_GPU_EXCLUSIVE=1"]
        request = of(env, config=Config(allocation_indices="count"))
        assert (request.devices, request.count, request.memory, request.exclusive) == ((), count, 40 * GIB, True)

    @pytest.mark.parametrize("devices", ["1", "1,0", "0,2", UUID, f"0,{UUID}"])
    def test_other_names_are_names_whatever_the_policy(self, devices):
        request = of([f"NVIDIA_VISIBLE_DEVICES={devices}"], config=Config(allocation_indices="count"))
        assert (request.devices, request.count) == (tuple(devices.split(",")), None)

    def test_indices_of_an_annotation_are_names_whatever_the_policy(self):
        request = of(devices="0,1", config=Config(allocation_indices="count"))
        assert (request.devices, request.count) == (("0", "1"), None)

    @pytest.mark.parametrize("devices", ["all", "none"])
    def test_all_and_none_are_what_they_are_whatever_the_policy(self, devices):
        env = [f"NVIDIA_VISIBLE_DEVICES={devices}"]
        assert of(env, config=Config(allocation_indices="count")) == of(env)

    @pytest.mark.parametrize("devices", ["0", "0,1,2", UUID, "none", "nvidia.com/gpu=0"])
    def test_beside_a_list_is_an_error(self, devices):
        with pytest.raises(InvalidInput, match=r"OCI_GPU_COUNT='2'.*NVIDIA_VISIBLE_DEVICES"):
            of([f"NVIDIA_VISIBLE_DEVICES={devices}", "OCI_GPU_COUNT=2"])
        with pytest.raises(InvalidInput, match=r"io.oci-gpu-hook.count='2'.*io.oci-gpu-hook.devices"):
            of(count="2", devices=devices)

    def test_of_the_annotation_beside_the_image_s_all(self):
        assert of(["NVIDIA_VISIBLE_DEVICES=all"], count="3").count == 3

    def test_beside_void_is_no_request_but_is_said(self):
        env = ["NVIDIA_VISIBLE_DEVICES=void", "OCI_GPU_COUNT=2"]
        assert of(env) is None
        assert "OCI_GPU_COUNT is not read: NVIDIA_VISIBLE_DEVICES='void' asks for no GPU" in warnings_of(env)

    def test_of_a_mig_profile(self):
        request = of(devices="1g.10gb", count="2")
        assert (request.devices, request.count) == (("1g.10gb",), 2)

    def test_of_a_mig_profile_alone_is_one(self):
        assert of(["NVIDIA_VISIBLE_DEVICES=1g.10GB+me"]).count == 1
        assert of(devices="1c.2g.20gb").devices == ("1c.2g.20gb",)

    @pytest.mark.parametrize("devices", ["1g.10gb,1g.10gb", "1g.10gb,0"])
    def test_a_mig_profile_stands_alone(self, devices):
        with pytest.raises(InvalidInput, match="is asked for together with other devices"):
            of(devices=devices)

    @pytest.mark.parametrize("value", ["two", "-1", "1.5", "1 2", "9" * 5000])
    def test_that_is_no_number_is_an_error(self, value):
        with pytest.raises(InvalidInput, match="is not a whole number"):
            of(count=value)

    def test_of_nought_asks_for_no_gpu(self):
        assert of(["NVIDIA_VISIBLE_DEVICES=all", "OCI_GPU_COUNT=0"]) is None
        assert of(count="0") is None
        assert of(["NVIDIA_VISIBLE_DEVICES=none", "OCI_GPU_COUNT=0"]).devices == ()

    def test_blank_is_unset(self):
        assert of(["OCI_GPU_COUNT= "]) is None
        assert of(["NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_COUNT="]).devices == ("0",)

    def test_is_under_the_policy_of_variables(self):
        config = Config(accept_envvar_when_unprivileged=False)
        assert of(["OCI_GPU_COUNT=1"], config=config) is None
        assert "OCI_GPU_COUNT" in warnings_of(["OCI_GPU_COUNT=1"], config=config)
        assert of(["OCI_GPU_COUNT=1"], config=config, privileged=True).count == 1
        assert of(config=config, count="1").count == 1


class TestRefinements:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("1", 1), ("40GiB", 40 * GIB), ("40Gi", 40 * GIB), ("2 TB", 2 * 10**12), ("512MiB", GIB // 2)],
    )
    def test_memory(self, text, size):
        assert of(count="1", memory=text).memory == size

    @pytest.mark.parametrize("text", ["40gib", "4.5GiB", "GiB", "-1GiB", "40 Gigabytes", "\u0664GiB"])
    def test_memory_that_is_none(self, text):
        with pytest.raises(InvalidInput, match="is not an amount of memory"):
            of(count="1", memory=text)

    def test_memory_needs_a_count(self):
        with pytest.raises(InvalidInput, match="it narrows a count"):
            of(["NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_MEMORY=40GiB"])

    def test_exclusive_is_yes_or_no(self):
        assert not of(count="1", exclusive="false").exclusive
        assert of(["NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_EXCLUSIVE=true"]).exclusive
        with pytest.raises(InvalidInput, match=r"OCI_GPU_EXCLUSIVE='yes'.*neither true nor false"):
            of(["NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_EXCLUSIVE=yes"])

    def test_annotations_refine_what_variables_ask_for(self):
        assert of(["NVIDIA_VISIBLE_DEVICES=0", "OCI_GPU_EXCLUSIVE=0"], exclusive="1").exclusive

    def test_variables_do_not_refine_what_annotations_ask_for(self):
        request = of(["OCI_GPU_MEMORY=40GiB", "OCI_GPU_COUNT=8"], devices="0")
        assert (request.devices, request.count, request.memory) == (("0",), None, 0)
        assert "OCI_GPU_MEMORY='40GiB' is not read" in "\n".join(request.warnings)


class TestSources:
    def test_annotations_go_before_mounts_and_variables(self):
        request = of(
            ["NVIDIA_VISIBLE_DEVICES=2"], mounts=[mount("1")], config=Config(accept_volume_mounts=True), devices="0"
        )
        assert (request.devices, request.source) == (("0",), "annotations")

    def test_an_annotation_may_ask_for_nothing(self):
        assert of(["NVIDIA_VISIBLE_DEVICES=all"], devices="void") is None
        assert of(["NVIDIA_VISIBLE_DEVICES=all"], devices="") is None
        assert of(["NVIDIA_VISIBLE_DEVICES=all"], devices="none").devices == ()

    def test_the_capabilities_annotation_goes_before_the_variable(self):
        env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=bogus"]
        request = of(env, capabilities="video")
        assert (request.driver_capabilities, request.source) == (("video",), "environment")

    def test_cdi_annotations(self):
        noted = {
            "cdi.k8s.io/b": "k8s.device-plugin.nvidia.com/gpu=1, nvidia.com/gds=all",
            "cdi.k8s.io/a": "nvidia.com/gpu=gpu0",
        }
        noted["cdi.k8s.io/c"] = "nvidia.com/imex-channel=3,nvidia.com/mig=0:1,nvidia.com/gpu=mig1:2,vendor.com/nic=x"
        request = parse(container(annotations=noted), Config())
        assert request
        assert request.devices == ("0", "1", "0:1", "1:2")
        assert (request.imex_channels, request.features) == ((3,), ("gds",))
        assert [(other.kind, other.devices) for other in request.beside] == [("vendor.com/nic", ("x",))]

    def test_cdi_annotations_that_the_engine_has_applied_add_nothing(self):
        reading = read(
            container(["NVIDIA_VISIBLE_DEVICES=void"], annotations={"cdi.k8s.io/a": "nvidia.com/gpu=0"}), Config()
        )
        assert reading.request is None
        assert "the engine has applied" in reading.warnings[0]

    @pytest.mark.parametrize("name", ["nvidia.com/gpu", "nvidia.com=0", "nvidia.com/gpu="])
    def test_half_a_cdi_name_of_nvidia_is_an_error(self, name):
        with pytest.raises(InvalidInput, match="is not a CDI name"):
            parse(container(annotations={"cdi.k8s.io/a": name}), Config())

    def test_features_and_channels_without_a_gpu_give_nothing(self):
        reading = read(container(annotations={"cdi.k8s.io/a": "nvidia.com/gds=all"}), Config())
        assert reading.request is None
        assert "names no GPU" in reading.warnings[0]

    @pytest.mark.parametrize("form", ["cdi/nvidia.com/gpu/0", "cdi/nvidia.com/gpu=0", "0", "./0"])
    def test_mounts(self, form):
        request = of(mounts=[mount(form)], config=Config(accept_volume_mounts=True))
        assert (request.devices, request.source) == (("0",), "mounts")

    def test_features_by_variable(self):
        env = [
            "NVIDIA_VISIBLE_DEVICES=0",
            "NVIDIA_GDS=enabled",
            "NVIDIA_NVSWITCH=enabled",
            "NVIDIA_MOFED=1",
            "NVIDIA_GDRCOPY=",
        ]
        assert of(env).features == ("gds", "nvswitch")
        assert "NVIDIA_MOFED='1'" in warnings_of(env)


class TestNames:
    @pytest.mark.parametrize(
        ("written", "name"),
        [
            ("00", "0"),
            ("0000:06:00.0", "00000000:06:00.0"),
            ("0:6:0.3", "00000000:06:00.0"),
            ("0000:AF:00", "00000000:af:00.0"),
            ("00:01", "0:1"),
            (f"MIG-{UUID}/1/0", f"MIG-{UUID}/1/0"),
            (UUID.lower(), UUID.lower()),
        ],
    )
    def test_normal_form(self, written, name):
        assert of([f"NVIDIA_VISIBLE_DEVICES={written}"]).devices == (name,)

    @pytest.mark.parametrize(
        ("written", "nearest"),
        [
            ("0-3", "0,1,2,3"),
            ("None", "none"),
            ("al", "all"),
            ("*", "all"),
            ("'0'", "0"),
            ('"all"', "all"),
            ("0;1", "0,1"),
            ("0 1", "0,1"),
            ("-1", "none"),
            ("/dev/nvidia0", "0"),
            ("nvidia1", "1"),
            (f"uuid:{UUID}", ""),
        ],
    )
    def test_impossible_names_are_refused_with_the_nearest(self, written, nearest):
        with pytest.raises(InvalidInput) as refused:
            of([f"NVIDIA_VISIBLE_DEVICES={written}"])
        assert refused.value.what.startswith("NVIDIA_VISIBLE_DEVICES=")
        assert refused.value.remedy.startswith(f"did you mean {nearest!r}? " if nearest else "allowed: all, none, void")

    def test_equal_names_in_other_spellings_are_one(self):
        assert of([f"NVIDIA_VISIBLE_DEVICES=0,nvidia.com/gpu=0,00,{UUID},{UUID.lower()}"]).devices == ("0", UUID)

    @pytest.mark.parametrize("name", ["gpu0", "GPU-1111", "MIG-12"])
    def test_names_in_no_known_form_are_kept_with_a_warning(self, name):
        request = of([f"NVIDIA_VISIBLE_DEVICES={name}"])
        assert request.devices == (name,)
        assert name in request.warnings[0]

    def test_a_misspelt_capability_gets_the_nearest(self):
        with pytest.raises(InvalidInput) as refused:
            of(["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utilty"])
        assert refused.value.remedy.startswith("did you mean 'utility'?")

    def test_a_capability_that_the_host_does_not_support_says_where_that_is_decided(self):
        with pytest.raises(InvalidInput, match="supported-driver-capabilities"):
            of(
                ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=video"],
                config=Config(supported_driver_capabilities=()),
            )


@pytest.mark.parametrize(
    ("env", "warning"),
    [
        (["NVIDIA_VISIBLE_DEVICES=0,none"], "'none' means no GPU; '0' beside it is not read"),
        (["NVIDIA_VISIBLE_DEVICES=0,all"], "'all' means every GPU; '0' beside it is not read"),
        (["NVIDIA_VISIBLE_DEVICES=0,void"], "'void' means no GPU; '0' beside it is not read"),
        (["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=all"], "'all' gives no channel"),
        (["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES= "], "no driver capability is selected"),
        (["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_X=", "NVIDIA_DISABLE_REQUIRE=yes"], "disables nothing"),
        (["OCI_GPU_EXCLUSIVE=1"], "OCI_GPU_EXCLUSIVE='1' is not read"),
        (["JUNK\n"], r"'JUNK\n' has no '='"),
    ],
)
def test_what_has_no_effect_is_said(env, warning):
    assert warning in warnings_of(env)


def test_an_unknown_annotation_is_said():
    assert "'io.oci-gpu-hook.cuont' is not read" in warnings_of(annotations=note(cuont="2"))


@pytest.mark.parametrize("name", ["memory", "exclusive", "wait"])
def test_a_setting_without_a_count_is_told_whatever_it_is_asked_by(name):
    told = warnings_of(annotations={f"io.oci-gpu-hook.{name}": "1"})
    assert f"io.oci-gpu-hook.{name}='1' is not read: no GPU is asked for" in told
    variable = f"OCI_GPU_{name.upper()}"
    assert f"{variable}='1' is not read: no GPU is asked for" in warnings_of([f"{variable}=1"])


def test_mig_access_is_for_the_privileged():
    env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_MIG_MONITOR_DEVICES=all"]
    with pytest.raises(InvalidInput, match="NVIDIA_MIG_MONITOR_DEVICES='all'"):
        of(env)
    assert of(env, privileged=True).mig_monitor_devices == "all"
    assert of([*env, "NVIDIA_VISIBLE_DEVICES=void"]) is None


def test_reading_a_request_loads_no_dear_module():
    home = os.path.dirname(os.path.dirname(oci_gpu_hook.__file__))
    lines = f"import sys; sys.path.append({home!r}); import oci_gpu_hook.request.parse; print(*sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-S", "-c", lines], capture_output=True, text=True, check=True)
    assert not {"re", "enum", "json", "typing", "functools", "collections", "difflib"} & {*found.stdout.split()}
