"""The errors of this project. Each has three parts: what failed, why, and what to do about it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LONGEST_VALUE: Final = 200
BUG: Final = "OGH1001"  # the code of what is no HookError
NEW_KERNEL: Final = "use Linux 5.12 or later, and let no seccomp profile refuse openat2 and the mount calls to the hook"


class HookError(Exception):
    """A failure described for people in one line, `WHAT: WHY; REMEDY`, which engines show to their users.

    code: its place in docs/errors.md, by which refusals are counted, too. It stays from version to version, and is
    never used again for something else. A class has the code of those of its errors that have none themselves.
    """

    code = "OGH1900"

    def __init__(self, what: str, why: str, remedy: str, code: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy
        if code:
            self.code = code

    def __str__(self) -> str:
        return one_line(f"{self.what}: {self.why}; {self.remedy}")


class InvalidInput(HookError):
    """The engine or the container passed something that the interface does not allow."""

    code = "OGH1200"


class Malformed(InvalidInput):
    """What the engine passed is not what the specification says."""

    code = "OGH1002"


class TooLarge(InvalidInput):
    """The input is larger than one of the `limits`, so what it says is not known."""

    code = "OGH1003"


class ConfigError(HookError):
    """The configuration file cannot be used."""

    code = "OGH1101"


class StateError(HookError):
    """The state directory cannot be used, or a file in it cannot be trusted."""

    code = "OGH1111"


class DriverError(HookError):
    """The host's driver, its files or its device nodes are not in a state to serve containers."""

    code = "OGH1400"


class AllocationError(HookError):
    """The GPUs asked for cannot be granted now."""

    code = "OGH1300"


class SimulationError(HookError):
    """A simulated host cannot be made here."""

    code = "OGH2001"


class UnsafeRootfs(HookError):
    """The container's file system would redirect a change to another place, so the change is refused."""

    code = "OGH1601"


class ApplyError(HookError):
    """A change to the container could not be made; what had been done was undone."""

    code = "OGH1500"


def quoted(value: object) -> str:
    """Return text of unknown origin in a form that is safe in a log or on a terminal: quoted, escaped, shortened."""
    if type(value) is str:
        value = value[:LONGEST_VALUE]  # of which the quotation marks leave less than there is room for
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def one_line(text: str) -> str:
    """Return the text with every control character made visible, so that it stays one line wherever it is shown."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def coded(message: str, code: str) -> str:
    """Return the line that people are shown of an error: its code is last, so that what went wrong comes first."""
    return f"{one_line(message)} [{code}]"


def described_bug(error: Exception) -> str:
    """Return one line that says what went wrong, and where in this project's code."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = ""
    if trace:
        file = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        where = f" at {file}:{trace.tb_lineno}"
    return f"internal error: {type(error).__name__}{where}: {error}"


def shortage(error: OSError) -> ApplyError | None:
    """Return the error for a lack of descriptors or memory, None if `error` is something else."""
    import errno

    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return None
    remedy = "give the engine, and so its hooks, more of them: LimitNOFILE= of its unit, or memory"
    return ApplyError("cannot work on the container", reason(error), remedy, "OGH1515")


def reason(error: OSError) -> str:
    """Say why a system call failed, in the system's words, without its Python decoration."""
    return error.strerror or str(error)
