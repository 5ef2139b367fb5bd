"""The config.json of a bundle as oci-gpu-runtime finds and writes it: with notes of earlier starts, and of images."""

from __future__ import annotations

import os

from oci_gpu_hook.base import processes
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import member
from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request.model import PREPARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_gpu_hook.apply.bundle import Grant
    from oci_gpu_hook.base.config.model import Config


def forget_an_images_note(document: dict[str, Any], state: containers.State) -> None:
    """Take out the note of what was put into a bundle where an image has written one. Raises InvalidInput."""
    annotations = member(document, "annotations", dict, "config.json", {})
    if PREPARED in annotations and PREPARED in containers.of_document(document, state).of_image:
        del annotations[PREPARED]


def restored(document: dict[str, Any], bundle_path: str, config: Config) -> bool:
    """Take out of config.json what was put in when the bundle was prepared before; tell whether it was."""
    from oci_gpu_hook.apply import bundle

    if bundle.is_recorded(document):
        from oci_gpu_hook.apply import bundle_described, bundle_record

        record = bundle_record.read(bundle_path, configs.of_this_user(config))
        if record is not None:
            bundle_described.take_out(document, record)
    return bundle.restore(document)


def put_in(document: dict[str, Any], grant: Grant, bundle_path: str, real_runtime: str, config: Config) -> None:
    """Put a grant into config.json, and keep what `restored` needs of it. Raises HookError."""
    from oci_gpu_hook.apply import bundle

    if grant.described is not None:
        from oci_gpu_hook.entrypoints import runtime_features

        runtime_features.check(grant.described, real_runtime)
    record = bundle.prepare(document, grant)
    if record is not None:
        from oci_gpu_hook.apply import bundle_record

        processes.check_principal()
        bundle_record.write(bundle_path, record, config)


def replace(path: str, data: bytes) -> None:
    """Replace a config.json atomically, and keep its owner and mode. Raises ApplyError, also if nobody waits for it."""
    processes.check_principal()
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
        replace_file(path, data, mode=status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))
    except OSError as error:
        remedy = "let the runtime write to its bundle, or register oci-gpu-hook with the engine instead"
        raise ApplyError(f"cannot write {quoted(path)}", reason(error), remedy, "OGH1512") from None
