"""The OCI runtime that engines start: `oci-gpu-runtime …`, which adds GPUs and leaves all else to the real runtime.

Before a `create` or `run` of a container that asks for GPUs it grants them and prepares the bundle (apply/bundle.py);
in an `update` it keeps what was granted (`runtime_update.py`). Then, as in every other call, this process becomes the
real runtime. The front (front/runtime.c) passes only those calls on to Python. Exit status: the real runtime's, or 1
with one line on stderr and in the runtime's log, where engines look.
"""

from __future__ import annotations

import gc
import os

from oci_gpu_hook.base import log, processes, streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.document import dump, member
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, InvalidInput, TooLarge, quoted, reason
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.base.rootless import in_first_user_namespace
from oci_gpu_hook.entrypoints.hook import RESIDENT_ENDED, describe_bug
from oci_gpu_hook.entrypoints.runtime_call import command_at, complain, read_call
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request.model import PREPARED
from oci_gpu_hook.request.prefilter import may_ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from oci_gpu_hook.apply.bundle import Grant
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.entrypoints.runtime_call import Call
    from oci_gpu_hook.entrypoints.runtime_standby import Standby
    from oci_gpu_hook.lifecycle.admission import Admission
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


class Prepared(Record):
    """A prepared bundle: config.json's path, its original contents, the container with the lease, and the standby."""

    path: str
    before: bytes
    container: str
    config: Config
    standby: Standby | None = None


def main(arguments: Sequence[str], real_runtime: str) -> NoReturn:
    """Prepare the bundle if necessary, and become the real runtime. arguments: the first is the stub's path."""
    gc.disable()
    streams.fill()
    words = arguments[1:]
    if words[:1] == [RESIDENT_ENDED]:
        from oci_gpu_hook.entrypoints import broken_off

        broken_off.report_for_runtime(words[1:])
    call = read_call(words)
    if call is None and words[command_at(words) :][:1] == ["update"]:
        from oci_gpu_hook.entrypoints import runtime_update

        words = runtime_update.with_grant(words, real_runtime)
    hook = os.path.join(os.path.dirname(os.path.abspath(arguments[0])), "oci-gpu-hook")
    try:
        prepared = prepare(call, hook, real_runtime) if call else None
        become(real_runtime, words, prepared)
    except HookError as error:
        complain(call, str(error), error.code)
    except Exception as error:  # noqa: BLE001  a bug: engines show one line, so it names the place
        complain(call, describe_bug(error), BUG)
    os._exit(1)


def prepare(call: Call, hook: str, real_runtime: str = "", *, stays: bool = True) -> Prepared | None:
    """Grant what the bundle's container asks for, and prepare the bundle. If it asks for nothing, return None.

    hook: the executable to register. stays: whether a child of this process may wait for it. real_runtime: it is asked
    whether it can do what a few CDI specifications need. If this raises HookError, the bundle is unchanged and no lease
    is left.
    """
    try:
        before = containers.read_config(call.bundle)
    except InvalidInput:
        return None  # the real runtime reports that itself
    config, trouble = configs.load_or_defaults(configs.DEFAULT_PATH)
    if not may_ask(before, b"", config.swarm_resource):
        return None
    from oci_gpu_hook.apply import bundle
    from oci_gpu_hook.request import parse as requests

    log.configure(config, container=call.container)
    path = os.path.join(call.bundle, "config.json")
    try:
        document = containers.read_document(before, call.bundle)
    except TooLarge:
        raise  # the real runtime would accept it, and start the container without its GPUs
    except InvalidInput:
        return None  # the real runtime reports that, too
    if type(document) is not dict or bundle.is_nvidias(document, hook):
        return None
    state = containers.State(id=call.container, pid=0, bundle=call.bundle, root="", annotations={})
    _forget_an_images_note(document, state)
    was_prepared = _restored(document, call.bundle, config)
    container = containers.of_document(document, state)
    reading = requests.read(container, config)
    request = reading.request
    if config.image_may_ask != "yes":  # the prepared bundle no longer shows what the image said
        _tell(reading.warnings, container, config)
    if request is None and was_prepared:
        _replace(path, dump(document))
    if request is None:
        return None if trouble else _hold(document, container, hook, before, config)
    if trouble:
        raise trouble
    _check_hook(hook)
    config = configs.of_this_user(config)
    return _granted(document, container, request, hook, real_runtime, before, config, stays=stays)


def _granted(  # noqa: PLR0913, PLR0917
    document: dict[str, Any],
    container: Container,
    request: Request,
    hook: str,
    real_runtime: str,
    before: bytes,
    config: Config,
    *,
    stays: bool,
) -> Prepared:
    """Grant what a container asks for, and write that into its bundle. Raises HookError; then nothing is changed."""
    from oci_gpu_hook.apply import bundle
    from oci_gpu_hook.entrypoints.runtime_standby import Standby
    from oci_gpu_hook.lifecycle import injected
    from oci_gpu_hook.lifecycle.admission import Admitted

    path = os.path.join(container.bundle, "config.json")
    with Admitted(container, request, config) as admission:
        injected.hold_beside(admission)
        stays = stays and not bundle.has_hook(document, hook)  # or nobody would come
        standby = Standby.offer(hook, config) if stays else None
        try:
            grant = _grant(admission, hook, standby.path if standby else "")
            _put_in(document, grant, container.bundle, real_runtime, config)
            _replace(path, dump(document))
        except BaseException:
            if standby:
                standby.remove()
            raise
    log.info("prepared", gpus=admission.uuids, bundle=container.bundle)
    return Prepared(path=path, before=before, container=container.id, config=config, standby=standby)


def _forget_an_images_note(document: dict[str, Any], state: containers.State) -> None:
    """Take out the note of what was put into a bundle where an image has written one. Raises InvalidInput."""
    annotations = member(document, "annotations", dict, "config.json", {})
    if PREPARED in annotations and PREPARED in containers.of_document(document, state).of_image:
        del annotations[PREPARED]


def _tell(warnings: Sequence[str], container: Container, config: Config) -> None:
    log.configure(configs.of_this_user(config), container=container.id)
    for text in warnings:
        log.warning("warning", text=text)


def _hold(document: dict[str, Any], container: Container, hook: str, before: bytes, config: Config) -> Prepared | None:
    """Record the devices that others have put into the bundle of a container that asks for nothing.

    The hook is registered too; it passes the lease on to the container. Raises AllocationError.
    """
    from oci_gpu_hook.lifecycle import injected

    if not (injected.is_possible(container) and os.access(hook, os.X_OK)):
        return None
    config = configs.of_this_user(config)
    log.configure(config, container=container.id)
    if not injected.hold(container, config):
        return None
    from oci_gpu_hook.apply import bundle
    from oci_gpu_hook.devices.edits import ContainerEdits

    path = os.path.join(container.bundle, "config.json")
    try:
        bundle.prepare(document, bundle.Grant(uuids=(), edits=ContainerEdits(), hook=hook, user_namespace=True))
        _replace(path, dump(document))
    except HookError as error:  # the container runs as it would without this project; the lease ends with this process
        log.warning("devices in the bundle not held", reason=str(error))
        return None
    return Prepared(path=path, before=before, container=container.id, config=config)


def _grant(admission: Admission, hook: str, standby: str) -> Grant:
    from oci_gpu_hook.apply.bundle import Grant

    return Grant(
        uuids=admission.visible_devices,
        edits=admission.device_edits(),
        hook=hook,
        user_namespace="user" in admission.container.namespaces or not in_first_user_namespace(),
        standby=standby,
        described=admission.described_edits() if admission.is_described else None,
    )


def _put_in(document: dict[str, Any], grant: Grant, bundle_path: str, real_runtime: str, config: Config) -> None:
    """Put a grant into config.json, and keep what `_restored` needs of it. Raises HookError."""
    from oci_gpu_hook.apply import bundle

    if grant.described is not None:
        from oci_gpu_hook.entrypoints import runtime_features

        runtime_features.check(grant.described, real_runtime)
    record = bundle.prepare(document, grant)
    if record is not None:
        from oci_gpu_hook.apply import bundle_record

        processes.check_principal()
        bundle_record.write(bundle_path, record, config)


def _restored(document: dict[str, Any], bundle_path: str, config: Config) -> bool:
    """Take out of config.json what was put in when the bundle was prepared before; tell whether it was."""
    from oci_gpu_hook.apply import bundle

    if bundle.is_recorded(document):
        from oci_gpu_hook.apply import bundle_described, bundle_record

        record = bundle_record.read(bundle_path, configs.of_this_user(config))
        if record is not None:
            bundle_described.take_out(document, record)
    return bundle.restore(document)


def _check_hook(hook: str) -> None:
    if not os.access(hook, os.X_OK):
        raise ApplyError(
            f"the hook {quoted(hook)}", "cannot be executed", "run `oci-gpu hook-path`, which installs it", "OGH1511"
        )


def become(real_runtime: str, words: Sequence[str], prepared: Prepared | None) -> NoReturn:
    """Become the real runtime, in the state in which the engine started this process.

    Raises ApplyError if it cannot be started; then the bundle is restored.
    """
    if prepared and prepared.standby:
        prepared.standby.leave_behind()
    signals.restore()
    if not _was_given("LC_CTYPE"):
        os.environ.pop("LC_CTYPE", None)  # CPython sets it if there is no locale (PEP 538)
    try:
        os.execv(real_runtime, [real_runtime, *words])  # noqa: S606
    except OSError as error:
        if prepared:
            _take_back(prepared)
        remedy = "install it, or run `oci-gpu hook-path --real-runtime FILE`"
        raise ApplyError(
            f"cannot start the real runtime {quoted(real_runtime)}", reason(error), remedy, "OGH1511"
        ) from None


def _was_given(name: str) -> bool:
    return bool(processes.variable("self", name.encode()))


def _take_back(prepared: Prepared) -> None:
    from oci_gpu_hook.allocation import release

    if prepared.standby:
        prepared.standby.remove()
    _replace(prepared.path, prepared.before)
    release.withdraw(prepared.container, 0, prepared.config)


def _replace(path: str, data: bytes) -> None:
    """Replace a config.json atomically, and keep its owner and mode. Raises ApplyError, also if nobody waits for it."""
    processes.check_principal()
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
        replace_file(path, data, mode=status.st_mode & 0o7777, owner=(status.st_uid, status.st_gid))
    except OSError as error:
        remedy = "let the runtime write to its bundle, or register oci-gpu-hook with the engine instead"
        raise ApplyError(f"cannot write {quoted(path)}", reason(error), remedy, "OGH1512") from None
