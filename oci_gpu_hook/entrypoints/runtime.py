"""The OCI runtime that engines start: `oci-gpu-runtime …`, which adds GPUs and leaves all else to the real runtime.

Before a `create` or `run` of a container that asks for GPUs it grants them and prepares the bundle (apply/bundle.py);
in an `update` it keeps what was granted (`runtime_update.py`). The front (front/runtime.c) passes only those calls on
to Python. Of a `create` or `run` it starts Python as a child, which tells it that the bundle is prepared, and stays to
attach the GPUs (`runtime_standby.py`) while the front becomes the real runtime. Else this process becomes it. Exit
status: the real runtime's, or 1 with one line on stderr and in the runtime's log, where engines look.
"""

from __future__ import annotations

import gc
import os

from oci_gpu_hook.base import log, processes, streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, InvalidInput, TooLarge, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.base.rootless import in_first_user_namespace
from oci_gpu_hook.entrypoints import real_runtime as real_runtimes
from oci_gpu_hook.entrypoints import runtime_bundle as in_bundle
from oci_gpu_hook.entrypoints.hook import ENDED, describe_bug
from oci_gpu_hook.entrypoints.runtime_call import FOR_FRONT, command_at, complain, read_call
from oci_gpu_hook.oci import container as containers
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
    from oci_gpu_hook.lifecycle.granted import Granted
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request


class Prepared(Record):
    """A prepared bundle: config.json's path, its original contents, and the container with the lease.

    standby, granted: where the hook's front is to find this process, and what it attaches then.
    """

    path: str
    before: bytes
    container: str
    config: Config
    standby: Standby | None = None
    granted: Granted | None = None


def main(arguments: Sequence[str], real_runtime: str) -> NoReturn:
    """Prepare the bundle if necessary, and become the real runtime. arguments: the first is the stub's path."""
    gc.disable()
    streams.fill()
    words = arguments[1:]
    if words and words[0].startswith(ENDED):
        from oci_gpu_hook.entrypoints import broken_off

        broken_off.report_for_runtime(words[0].removeprefix(ENDED), words[1:])
    if words and words[0].startswith(FOR_FRONT):
        prepare_for_front((arguments[0], *words[1:]), real_runtime, int(words[0].removeprefix(FOR_FRONT)))
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


def prepare_for_front(arguments: Sequence[str], real_runtime: str, front: int) -> NoReturn:
    """Prepare the bundle for the front that started this process and becomes the real runtime; then stay for the hook.

    front: a descriptor at which it waits for the exit status, a digit.
    """
    processes.act_for(processes.parent())
    status, prepared = prepare_for(arguments, real_runtime, stays=True)
    os.write(front, b"%d" % status)
    if prepared and prepared.standby and prepared.granted:
        prepared.standby.serve(prepared.granted)
    os._exit(status)


def prepare_for(arguments: Sequence[str], real_runtime: str, *, stays: bool = False) -> tuple[int, Prepared | None]:
    """Do what comes before the real runtime, for another process that then becomes it; return the exit status."""
    call = read_call(arguments[1:])
    hook = os.path.join(os.path.dirname(arguments[0]), "oci-gpu-hook")
    try:
        return 0, prepare(call, hook, real_runtime, stays=stays) if call else None
    except HookError as error:
        complain(call, str(error), error.code)
    except Exception as error:  # noqa: BLE001  a bug; as above
        complain(call, describe_bug(error), BUG)
    return 1, None


def prepare(call: Call, hook: str, real_runtime: str = "", *, stays: bool = True) -> Prepared | None:
    """Grant what the bundle's container asks for, and prepare the bundle. If it asks for nothing, return None.

    hook: the executable to register. stays: whether this process, or a child, may wait for it. real_runtime: must be
    there, and is asked whether it can do what a few CDI specifications need. If this raises HookError, the bundle is
    unchanged and no lease is left.
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
    in_bundle.forget_an_images_note(document, state)
    was_prepared = in_bundle.restored(document, call.bundle, config)
    container = containers.of_document(document, state)
    reading = requests.read(container, config)
    request = reading.request
    if config.image_may_ask != "yes":  # the prepared bundle no longer shows what the image said
        _tell(reading.warnings, container, config)
    if request is None and was_prepared:
        in_bundle.replace(path, dump(document))
    if request is None:
        return None if trouble else _hold(document, container, hook, before, config)
    if trouble:
        raise trouble
    _check_hook(hook)
    real_runtimes.check(real_runtime)
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
    from oci_gpu_hook.lifecycle.granted import Granted

    path = os.path.join(container.bundle, "config.json")
    with Admitted(container, request, config) as admission:
        injected.hold_beside(admission)
        stays = stays and not bundle.has_hook(document, hook)  # or nobody would come
        standby = Standby.offer(hook, config) if stays else None
        try:
            grant = _grant(admission, hook, standby.path if standby else "")
            in_bundle.put_in(document, grant, container.bundle, real_runtime, config)
            written = dump(document)
            in_bundle.replace(path, written)
        except BaseException:
            if standby:
                standby.remove()
            raise
    log.info("prepared", gpus=admission.uuids, bundle=container.bundle)
    granted = Granted(
        container=container.id,
        bundle=container.bundle,
        annotations=container.annotations,
        written=written,
        document=document,
        # What an image may not ask for is told here, since the prepared bundle no longer shows that the image asked.
        request=request if config.image_may_ask == "yes" else request.replace(warnings=()),
        config=config,
        # Who has waited has an inventory from before.
        snapshots={} if request.wait else {part.request.kind: part.snapshot for part in admission.parts},
    )
    return Prepared(path=path, before=before, container=container.id, config=config, standby=standby, granted=granted)


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
        in_bundle.replace(path, dump(document))
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


def _check_hook(hook: str) -> None:
    if not os.access(hook, os.X_OK):
        raise ApplyError(
            f"the hook {quoted(hook)}", "cannot be executed", "run `oci-gpu hook-path`, which installs it", "OGH1511"
        )


def become(real_runtime: str, words: Sequence[str], prepared: Prepared | None) -> NoReturn:
    """Become the real runtime. Raises ApplyError if it cannot be started; then the bundle is restored."""
    if prepared and prepared.standby and prepared.granted:
        prepared.standby.leave_behind(prepared.granted)
    try:
        real_runtimes.become(real_runtime, words)
    except ApplyError:
        if prepared:
            _take_back(prepared)
        raise


def _take_back(prepared: Prepared) -> None:
    from oci_gpu_hook.allocation import release

    if prepared.standby:
        prepared.standby.remove()
    in_bundle.replace(prepared.path, prepared.before)
    release.withdraw(prepared.container, 0, prepared.config)
