"""Gives metrics out: as Prometheus' text, or over HTTP.

Source of the form: Prometheus, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

import threading
from typing import Any  # noqa: TID253  only `oci-gpu metrics` comes here

from oci_gpu_hook.admin.metering.families import COUNTER
from oci_gpu_hook.base.errors import InvalidInput, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from oci_gpu_hook.admin.metering.families import Family, Labels


def text(families: Iterable[Family]) -> bytes:
    """Return metrics as text."""
    lines = []
    for family in families:
        lines += [f"# HELP {family.name} {_escaped(family.help)}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{suffix}{_braces(labels)} {value!r}" for suffix, labels, value in family.samples]
    return ("\n".join(lines) + "\n").encode()


def serve(host: str, port: int, measured: Callable[[], Iterable[Family]]) -> None:
    """Answer requests for metrics until the process ends. Raises InvalidInput.

    measured: returns the metrics of the moment; it is called for one request at a time.
    """
    try:
        import prometheus_client
        from prometheus_client.core import Metric
        from prometheus_client.registry import Collector
    except ImportError:
        remedy = "install it: pip install 'oci-gpu-hook[metrics]', or Debian's python3-prometheus-client"
        raise InvalidInput("--listen", "needs the Python module prometheus_client", remedy, "OGH1907") from None
    lock = threading.Lock()

    class Ours(Collector):
        """Measures at each request."""

        def collect(self) -> Iterator[Any]:
            with lock:
                families = [*measured()]
            for family in families:
                name = family.name.removesuffix("_total") if family.kind == COUNTER else family.name
                metric = Metric(name, family.help, family.kind)
                for suffix, labels, value in family.samples:
                    metric.add_sample(family.name + suffix, dict(labels), value)
                yield metric

    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    try:
        started = prometheus_client.start_http_server(port, host, registry)
    except OSError as error:
        remedy = "give an address of this host and a port that is free"
        raise InvalidInput(f"--listen {quoted(f'{host}:{port}')}", reason(error), remedy, "OGH1907") from None
    if started:  # versions before 0.20 return nothing
        started[1].join()
    threading.Event().wait()


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels)
    return f"{{{inner}}}"


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', '\\"')


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
