"""A cheap search of the engine's bytes, which ends the hook for containers that ask for nothing.

It runs for every container on the host, before any JSON is parsed, so it imports only constants. It may say yes without
need, but never no: without one of these words `parse` finds no request. The static front (front/words.c) has the same
rule for escapes, and gets its words from front/make_words.py, which must be run after a change here.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

# Words consist of LETTERS: none has a slash, which JSON may write as "\/".
WORDS: Final = (
    # NVIDIA's
    b"NVIDIA_VISIBLE_DEVICES",
    b"CUDA_VERSION",  # older images than NVIDIA_REQUIRE_CUDA ask only by this
    b"nvidia-container-devices",
    b"AMD_VISIBLE_DEVICES",
    # words of every vendor
    b"OCI_GPU_",
    b"io.oci-gpu-hook.",
    b"cdi.k8s.io",
    # not requests, but nodes of GPUs, which an engine or a person has put into the container: lifecycle.injected
    b"nvidiactl",
    b"nderD",  # AMD's and Intel's renderDN: every other first letter than those above costs each container time
    b"nvmap",  # a Tegra's own
    b"dxg",  # the node of WSL 2; nothing shorter or with a first letter of the others is as rare
    b"ccel",  # accel/accelN of Habana, Qualcomm and Intel's NPUs
)
_WHITESPACE: Final = b" \t\n\r"  # of JSON
LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


def may_ask(config_json: bytes, state_json: bytes, swarm_resource: Sequence[str] = ()) -> bool:
    """Tell from the bytes of its config.json and OCI state whether a container could ask for a GPU.

    swarm_resource: the variables of the configuration's key of that name, which ask like NVIDIA_VISIBLE_DEVICES.
    """
    words: tuple[bytes, ...] = WORDS
    for variable in swarm_resource:
        word = variable.encode("utf-8", "surrogatepass")
        if not LETTERS.issuperset(word):
            return True  # JSON can write such a name in more than one way
        words = (*words, word)
    for document in (config_json, state_json):
        for word in words:
            if word in document:
                return True
        if _may_spell(document):
            return True
    return False


def is_cut_off(config_json: bytes) -> bool:
    """Tell whether a config.json does not end as an object. What it lacks could ask for anything."""
    return not config_json.rstrip(_WHITESPACE).endswith(b"}")


def _may_spell(document: bytes) -> bool:
    """Tell whether escapes could spell a letter of a word. Those that Go writes for `<`, `>` and `&` cannot."""
    if document.count(b"\\u") > limits.CONFIG_JSON_ESCAPES:
        return True
    at = document.find(b"\\u")
    while at >= 0:
        code = document[at + 2 : at + 6]
        try:
            if len(code) < 4 or int(code, 16) in LETTERS:
                return True
        except ValueError:
            return True  # not JSON; the parser has a better message for that
        at = document.find(b"\\u", at + 2)
    return False
