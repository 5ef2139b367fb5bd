"""Texts that stand near the edges of what a container may ask, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from oci_gpu_hook.oci.container import BundleMount, Container

NAMES = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_REQUIRE_CUDA",
    "NVIDIA_REQUIRE_",
    "NVIDIA_REQUIRE_JETPACK",
    "NVIDIA_DISABLE_REQUIRE",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_GDS",
    "NVIDIA_GDRCOPY",
    "CUDA_VERSION",
    "OCI_GPU_COUNT",
    "OCI_GPU_MEMORY",
    "OCI_GPU_EXCLUSIVE",
    "OCI_GPU_WAIT",
    "SWARM",
    "SWÄRM",
    "PATH",
    "",
)
WORDS = (
    *(
        "",
        " ",
        ",",
        "0",
        "1",
        "2",
        "00",
        "-1",
        "+1",
        "9" * 5000,
        "0,1",
        "0-3",
        "all",
        "ALL",
        "none",
        "void",
        "None",
        "*",
    ),
    *(
        "GPU-11111111-2222-3333-4444-555555555555",
        "GPU-1111",
        "gpu0",
        "MIG-0",
        "0:0",
        "0000:06:00.0",
        "1g.10gb",
        "1g.10gb+me",
    ),
    *(
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=all",
        "nvidia.com/gds=all",
        "example.com/gpu=0",
        "nvidia.com/gpu=void",
        "a/b",
    ),
    *(
        "compute",
        "utility",
        "compute,utility",
        "Compute",
        "true",
        "yes",
        "enabled",
        "channel0",
        "1048576",
        "40GiB",
        "4G",
    ),
    *("12.4", "9.", "v1", "cuda>=12.4 brand=tesla,driver>=470", "bogus", "!", "\u0661", "²", "\udcff", "\0", "\n"),
)
values = st.one_of(
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(WORDS), max_size=3).map(",".join),
    st.text(max_size=12),
    st.text("0123456789.:-,+agMGPUIv/=<>! ", max_size=16),
)
entries = st.one_of(st.tuples(st.sampled_from(NAMES), values).map("=".join), st.text(max_size=8))
json_entries = entries.filter(lambda text: text.isascii() or text.isprintable())
environments = st.lists(json_entries, max_size=5)
annotation_sets = st.dictionaries(
    st.one_of(
        st.sampled_from(["devices", "capabilities", "count", "memory", "exclusive", "wait", "cuont"]).map(
            "io.oci-gpu-hook.{}".format
        ),
        st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "cdi.k8s.io/", "other"]),
    ),
    values,
    max_size=4,
)
mounts = st.lists(
    st.builds(
        BundleMount,
        destination=st.one_of(values, values.map("/var/run/nvidia-container-devices/{}".format)),
        source=st.sampled_from(["/dev/null", "/dev/../dev/null", "/dev/zero", "", "//dev/null"]),
        type=st.just("bind"),
        options=st.just(()),
    ),
    max_size=3,
)


def container(env=(), mounts=(), annotations=None, *, privileged=False):
    """Return a container of which only what a request is read from matters."""
    return Container(
        id="c",
        pid=0,
        bundle="/bundle",
        rootfs="/bundle/rootfs",
        root_readonly=False,
        env=tuple(env),
        mounts=tuple(mounts),
        annotations=annotations or {},
        privileged=privileged,
        uid=0,
        gid=0,
        namespaces=(),
        uid_mappings=(),
        gid_mappings=(),
        cgroups_path="",
        device_rules=(),
    )
