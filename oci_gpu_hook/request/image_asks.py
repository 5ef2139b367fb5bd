"""`[request] image-may-ask`: tells the image's own requests from those of the person who starts the container.

Images such as NVIDIA's CUDA images set NVIDIA_VISIBLE_DEVICES=all, so that people who start them get GPUs without
asking. Imported only if the key is set.
"""

from __future__ import annotations

from oci_gpu_hook.oci import engine_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.ask import Ask

_OF_ONE_HOST: Final = ("GPU-", "MIG-GPU-", "MIG-")  # names that no image can know


def heard(ask: Ask, container: Container, policy: str, warnings: list[str]) -> Ask | None:
    """Return a request by variables, None if the policy is to ignore it. policy: `warn` or `no`."""
    whose = _whose(ask, container)
    if not whose:
        return ask
    if policy == "warn":
        warnings.append(f"{ask.what} {whose}; the person who starts the container may not want GPUs (image-may-ask)")
        return ask
    remedy = "ask by an annotation, by UUID, or otherwise than the image"
    warnings.append(f'GPUs asked for by {ask.what} are not given: it {whose}, and image-may-ask is "no"; {remedy}')
    return None


def _whose(ask: Ask, container: Container) -> str:
    """Say that a request is the image's, or may be; "" if the person who started the container made it."""
    if ask.source == "legacy-image":
        return "is what the image says"
    names = tuple(f"{name}=" for name in ask.variables)
    said = [entry for entry in container.env if entry.startswith(names)]
    of_image = engine_records.image_environment(container.rootfs, container.id)
    if of_image is None:
        if any(name.upper().startswith(_OF_ONE_HOST) for name in ask.devices or ()):
            return ""
        return "may be what the image says, which this engine does not tell"
    theirs = [entry for entry in of_image if entry.startswith(names)]
    # The entry for --gpus is added after the image's; the entry for --env replaces the image's.
    return "is what the image says" if len(said) <= len(theirs) and set(said) <= set(theirs) else ""
