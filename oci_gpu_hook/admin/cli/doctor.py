"""Look at everything that must be right for containers to get this host's GPUs, and say what is not, why it matters and
what to do. Nothing is changed.

Exit status: 0 all is well, 1 there are warnings, 2 there are errors: containers that ask for GPUs fail, or are less
isolated than they should be.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

from oci_gpu_hook.admin.cli.console import Working, console, hanging
from oci_gpu_hook.admin.doctor import checkup
from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING
from oci_gpu_hook.base.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.admin.doctor.model import Finding

_MARKS: Final = {OK: ("ok", "green"), NOTE: ("note", "cyan"), WARNING: ("warning", "yellow"), ERROR: ("error", "red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--run", dest="trial", action="store_true", help="at the end start a container that asks for a GPU"
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show only warnings and errors, each with what to do; nothing where all is well",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/doctor.schema.json)")


def run(options: argparse.Namespace) -> int:
    """Print the findings; return exit status 0, 1 or 2."""
    findings = _examine(options.config, trial=options.trial)
    shown = [finding for finding in findings if not options.quiet or finding.severity in (WARNING, ERROR)]
    if options.json:
        import json

        print(json.dumps([_to_json(finding) for finding in shown], indent=2))
    else:
        _show(shown)
        if shown or not options.quiet:
            _sum_up(findings)
    return status_of(findings)


def status_of(findings: Iterable[Finding]) -> int:
    """Return the exit status: 2 for errors, 1 for warnings, otherwise 0 (as monitoring plugins do)."""
    severities = {finding.severity for finding in findings}
    return 2 if ERROR in severities else 1 if WARNING in severities else 0


def _examine(config_path: str, *, trial: bool) -> list[Finding]:
    with Working("looking at the driver") as working:
        host = checkup.host(config_path)
        findings = list(checkup.examine(host, lambda name: working.now(f"looking at: {_title(name)}")))
        if trial:
            from oci_gpu_hook.admin.doctor import trial as last

            working.now("starting containers")
            findings += checkup.guarded("trial", last.check, host)
    return findings


def _to_json(finding: Finding) -> dict[str, str]:
    return dict(finding.__dict__)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _show(findings: Sequence[Finding]) -> None:
    """Print the findings by check: a mark and a sentence, and below it why it matters and what to do."""
    from rich.text import Text

    out = console()
    title = ""
    for finding in findings:
        if finding.check != title:
            title = finding.check
            out.print(Text(_title(title), style="bold"))
        mark, colour = _MARKS[finding.severity]
        hanging(out, f"  {mark:7} ", one_line(finding.what), colour)
        for text in filter(None, (finding.why, finding.remedy and f"→ {finding.remedy}")):
            hanging(out, " " * 10, one_line(text))


def _sum_up(findings: Sequence[Finding]) -> None:
    counts = {severity: sum(f.severity == severity for f in findings) for severity in (ERROR, WARNING)}
    if not any(counts.values()):
        print("All is well.")
        return
    parts = [f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count]
    print(f"{' and '.join(parts)}.")
