"""The cheap look at the engine's bytes that ends the hook for containers which ask for nothing.

It runs for every container of the host, before any JSON is parsed, so it imports nothing but numbers. It may say yes
too often, never no too often: each word is one without which `parse` finds no request. The static front (front/words.c)
has the same rule for escapes, and the words by front/make_words.py, which is to be run after a change here.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

# Of LETTERS alone: no word has a slash, which JSON may write as "\/".
WORDS: Final = (
    # NVIDIA's
    b"NVIDIA_VISIBLE_DEVICES",
    b"CUDA_VERSION",  # images from before NVIDIA_REQUIRE_CUDA ask by it alone
    b"nvidia-container-devices",
    # those of every vendor
    b"OCI_GPU_",
    b"io.oci-gpu-hook.",
    b"cdi.k8s.io",
    b"nvidiactl",  # asks for nothing, but has a GPU of the engine's: lifecycle.injected
)
LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


def may_ask(config_json: bytes, state_json: bytes, swarm_resource: Sequence[str] = ()) -> bool:
    """Tell whether a container could ask for a GPU, going by the bytes of its config.json and of its OCI state.

    swarm_resource: the variables of the configuration's key of that name, which ask like NVIDIA_VISIBLE_DEVICES.
    """
    words: tuple[bytes, ...] = WORDS
    for variable in swarm_resource:
        word = variable.encode("utf-8", "surrogatepass")
        if not LETTERS.issuperset(word):
            return True  # JSON can write it in more ways than one
        words = (*words, word)
    for document in (config_json, state_json):
        for word in words:
            if word in document:
                return True
        if _may_spell(document):
            return True
    return False


def _may_spell(document: bytes) -> bool:
    """Tell whether escapes could spell a letter of a word; those that Go writes for `<`, `>` and `&` could not."""
    if document.count(b"\\u") > limits.CONFIG_JSON_ESCAPES:
        return True
    at = document.find(b"\\u")
    while at >= 0:
        code = document[at + 2 : at + 6]
        try:
            if len(code) < 4 or int(code, 16) in LETTERS:
                return True
        except ValueError:
            return True  # no JSON; whoever parses it has better words for that
        at = document.find(b"\\u", at + 2)
    return False
