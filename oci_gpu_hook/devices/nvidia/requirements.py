"""Evaluates NVIDIA_REQUIRE_*: `cuda>=12.4 brand=tesla,driver>=470`. Pure. Imported only if one is set.

A space means OR, a comma AND, and evaluation stops when the result is known. The rules are exactly those of
libnvidia-container (src/cli/dsl.c), because images rely on them.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, InvalidInput, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.base.errors import HookError
    from oci_gpu_hook.devices.nvidia.model import Gpu

INVALID: Final = "invalid expression"
_NVML_PROPERTIES: Final = frozenset(("cuda", "arch", "brand"))
_GPU_PROPERTIES: Final = frozenset(("arch", "brand"))
_OPERATORS: Final = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "!": "!="}
_OPERATOR_LETTERS: Final = "<>=!"
_LONGEST_TERM: Final = 128  # bytes of `property operator value` and a NUL; a longer false term is invalid
_LARGEST_PART: Final = (1 << 64) - 1  # of a version: the value that C cannot tell from an overflow
_DISABLE: Final = "NVIDIA_DISABLE_REQUIRE=1 skips the check"


class Host(Record):
    """The properties for requirements. arch ("8.0") and brand ("tesla") are "" if no GPU is selected.

    None means unknown, which is an error if the result depends on it.
    """

    driver: str | None
    cuda: str | None
    arch: str | None = ""
    brand: str | None = ""


class _Invalid(Exception):
    """A term that cannot be read."""


class _Unknown(Exception):
    """A property that is not known of the host."""


def unsatisfied(requirement: str, host: Host) -> str | None:
    """Return why a requirement is not satisfied, in NVIDIA's words; None if it is."""
    try:
        if _holds(requirement, host):
            return None
    except _Invalid:
        return INVALID
    first = requirement.split(" ", 1)[0]
    advice = ", please update your driver to a newer version, or use an earlier cuda container"
    return f"unsatisfied condition: {first}{advice if first.startswith('cuda>=') else ''}"


def needs_nvml(requirements: Iterable[str]) -> bool:
    """Tell whether requirements name what only NVML knows: CUDA version, architecture or brand."""
    terms = (term for requirement in requirements for term in requirement.replace(",", " ").split(" "))
    return any(_split(term)[0].lower() in _NVML_PROPERTIES for term in terms)


def check(
    requirements: Sequence[str],
    driver_version: str,
    cuda_version: str,
    gpus: Sequence[Gpu],
    *,
    known_only: bool = False,
) -> None:
    """Check every requirement for every selected GPU, or once if there is none.

    known_only: pass over requirements of what is unknown, as NVIDIA's toolkit does on Tegra (internal/requirements).

    Raises InvalidInput for a requirement that cannot be read, DriverError for one that is not satisfied or needs a
    property that the inventory lacks (an empty version, architecture or brand).
    """
    driver, cuda = driver_version or None, cuda_version or None
    for gpu in gpus or (None,):
        host = Host(driver=driver, cuda=cuda)
        if gpu:
            host = Host(driver=driver, cuda=cuda, arch=gpu.architecture or None, brand=gpu.brand or None)
        for requirement in requirements:
            try:
                complaint = unsatisfied(requirement, host)
            except _Unknown as unknown:
                if known_only:
                    continue
                why = f"{unknown} is not known"
                remedy = f"oci-gpu doctor says why; {_DISABLE}"
                raise DriverError(
                    f"cannot check the requirement {quoted(requirement)}", why, remedy, "OGH1412"
                ) from None
            if complaint:
                raise _failure(requirement, complaint, host, gpu)


def _failure(requirement: str, complaint: str, host: Host, gpu: Gpu | None) -> HookError:
    what = f"requirement {quoted(requirement)}"
    if complaint == INVALID:
        remedy = "write terms such as cuda>=12.4, driver>=535, arch>=8.0, brand=tesla: space is OR, comma is AND"
        return InvalidInput(what, complaint, remedy, "OGH1214")
    facts = [f"driver {host.driver or 'unknown'}", f"CUDA {host.cuda or 'unknown'}"]
    if gpu:
        facts.append(f"GPU {gpu.index}: arch {host.arch or 'unknown'}, brand {host.brand or 'unknown'}")
    remedy = f"use a host or an image that fits; {_DISABLE}"
    return DriverError(what, f"{complaint} (this host has {', '.join(facts)})", remedy, "OGH1411")


def _holds(requirement: str, host: Host) -> bool:
    holds = True
    for alternative in requirement.split(" "):
        if not alternative:
            continue
        for term in alternative.split(","):
            if not term:
                continue
            holds = _is_true(term, host)
            if not holds:
                break
        else:
            return holds
    return holds


def _is_true(term: str, host: Host) -> bool:
    name, sign, value = _split(term)
    operator = _OPERATORS.get(sign)
    if not name or operator is None or not value:
        raise _Invalid
    known = name.lower()
    if known not in ("driver", "cuda", "arch", "brand"):
        raise _Invalid
    fact = getattr(host, known)
    if fact is None:
        raise _Unknown(
            {"driver": "the driver's version", "cuda": "the driver's CUDA version"}.get(known, f"the GPU's {known}")
        )
    if fact == "" and known in _GPU_PROPERTIES:
        return True
    true = _compare_words(fact, operator, value) if known == "brand" else _compare_versions(fact, operator, value)
    if not true and len(f"{name} {operator} {value}".encode("utf-8", "surrogateescape")) >= _LONGEST_TERM:
        raise _Invalid
    return true


def _split(term: str) -> tuple[str, str, str]:
    """Return property, operator and value of a term; operator and value are "" if it has no operator."""
    name = term
    for letter in _OPERATOR_LETTERS:
        name = name.partition(letter)[0]
    rest = term[len(name) :]
    value = rest.lstrip(_OPERATOR_LETTERS)
    return name, rest[: len(rest) - len(value)], value


def _compare_words(fact: str, operator: str, value: str) -> bool:
    if operator not in ("=", "!="):
        raise _Invalid
    return (fact.lower() == value.lower()) == (operator == "=")


def _compare_versions(fact: str, operator: str, value: str) -> bool:
    """Compare by components; the remainder of the longer version makes it greater unless it is all zeros."""
    if fact.strip("0123456789.") or value.strip("0123456789."):
        raise _Invalid
    while fact and value:
        mine, fact = _component(fact)
        theirs, value = _component(value)
        if mine != theirs:
            return _fits(-1 if mine < theirs else 1, operator)
    more, less = fact.lstrip(".0"), value.lstrip(".0")
    return _fits(bool(more) - bool(less), operator)


def _component(version: str) -> tuple[int, str]:
    """Return the first number of a version, and the rest after the following dots."""
    rest = version.lstrip("0123456789")
    figures = version[: len(version) - len(rest)].lstrip("0")
    if len(rest) == len(version) or len(figures) > 20 or int(figures or "0") >= _LARGEST_PART:
        raise _Invalid
    return int(figures or "0"), rest.lstrip(".")


def _fits(order: int, operator: str) -> bool:
    """Tell whether an order (negative: less, 0: equal, positive: greater) satisfies the operator."""
    if operator in ("=", "!="):
        return (order == 0) == (operator == "=")
    if order == 0:
        return operator.endswith("=")
    return (order < 0) == operator.startswith("<")
