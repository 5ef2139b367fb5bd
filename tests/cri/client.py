"""A client of the Container Runtime Interface: what a kubelet says to containerd or CRI-O, over their socket."""

from __future__ import annotations

from typing import Any

import grpc

from tests.cri import messages

_TIMEOUT = 120  # seconds, as the kubelet's runtimeRequestTimeout


class CriError(Exception):
    """What the engine has refused, in its own words."""


class NotThereError(CriError):
    """The engine does not answer, or is not ready."""


class Client:
    """The runtime service behind a socket."""

    def __init__(self, socket: object) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.max_reconnect_backoff_ms", 500)])

    def __call__(self, method: str, **request: Any) -> Any:
        """Call a method with a request of these fields; return its answer. Raises CriError."""
        call = self._channel.unary_unary(
            f"/{messages.PACKAGE}.RuntimeService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.kind(f"{method}Response").FromString,
        )
        try:
            return call(messages.of(f"{method}Request", request), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            is_away = error.code() == grpc.StatusCode.UNAVAILABLE or "not initialized" in error.details()
            raise (NotThereError if is_away else CriError)(error.details()) from None

    def close(self) -> None:
        """End the connection."""
        self._channel.close()
