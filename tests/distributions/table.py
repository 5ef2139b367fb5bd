"""The table of docs/engines.md, as it follows from what was seen."""

from __future__ import annotations

from pathlib import Path

from tests.distributions.cells import CELLS, DEVICE, GRANTED, REPAIRED, STEPS, Cell
from tests.distributions.machines import DISTRIBUTIONS

DOCUMENT = Path(__file__).parents[2] / "docs/engines.md"
BEGIN = "<!-- made by `make engines`: begin -->\n"
END = "<!-- made by `make engines`: end -->\n"
KEPT = "kept"
NOT_OFFERED = "not offered"
NOT_RUN = "not run"
FAILED = "**does not start**"


def version(report: dict, program: str) -> tuple[int, ...]:
    """Return the first two numbers of a program's version."""
    return tuple(int(part) for part in report["versions"][program].split(".")[:2])


def is_offered(report: dict, cell: Cell) -> bool:
    """Tell whether the engine of this release knows this way."""
    if cell.way == "--runtime oci-gpu, annotation":
        return version(report, "docker") >= (24, 0)
    if cell.way == DEVICE and cell.engine == "docker":
        return version(report, "docker") >= (25, 0)
    if cell.way == "cdi_devices":
        return version(report, "containerd") >= (1, 7)
    return cell.way != "quadlet" or version(report, "podman") >= (4, 6)


def is_runnable(result: dict) -> bool:
    """Tell whether this machine let the engine start it: old cruns want CAP_SYS_RESOURCE, to load a device program."""
    return "RLIM_MEMLOCK" not in result["failure"]


def value(report: dict, cell: Cell) -> str:
    """Say in a few words what became of a container: kept, when it was lost, or that it was not to be had."""
    result = report["cells"][cell.name]
    if result["failure"]:
        if not is_offered(report, cell):
            return NOT_OFFERED
        return FAILED if is_runnable(result) else NOT_RUN
    steps = result["steps"]
    lost = [step for step in STEPS if steps[step][0] != GRANTED]
    if not lost:
        return KEPT
    if tuple(lost) == STEPS[STEPS.index(lost[0]) :] and not any(_mended(steps, step) for step in lost):
        return f"**lost at {lost[0]}**, and nothing gives it back"
    mended = all(_mended(steps, step) for step in lost)
    return f"**lost at {', '.join(lost)}**" + ("; `oci-gpu repair` gives it back" if mended else "")


def _mended(steps: dict, step: str) -> bool:
    return steps.get(step + REPAIRED, [""])[0] == GRANTED


def made(reports: dict[str, dict]) -> str:
    """Return the table: a row for the kinds of containers of one engine and way to which the same happened.

    Of releases that were not tried stays what the document says.
    """
    rows: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for cell in CELLS:
        seen = tuple(
            value(reports[release], cell) if release in reports else documented(cell, release)
            for release in DISTRIBUTIONS
        )
        rows.setdefault((cell.engine, cell.way, seen), []).append(cell.kind)
    head = ["engine", "asked by", "container", *DISTRIBUTIONS.values()]
    lines = [head, ["---"] * len(head)]
    lines += [[engine, way, ", ".join(kinds), *seen] for (engine, way, seen), kinds in rows.items()]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    versions = "".join(f"- {_versions(name, reports.get(release))}\n" for release, name in DISTRIBUTIONS.items())
    return f"{table}\n{versions}"


def documented(cell: Cell, release: str) -> str:
    """Return what the document says of a container, "" where that is nothing."""
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in _document() if line.startswith("|")]
    column = 3 + [*DISTRIBUTIONS].index(release)
    found = [row for row in rows if row[:2] == [cell.engine, cell.way] and cell.kind in row[2].split(", ")]
    return found[0][column] if found else ""


def write(reports: dict[str, dict]) -> None:
    """Put the table into the document."""
    text = made(reports)
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(before + begin + text + END + rest.partition(END)[2])


def _versions(name: str, report: dict | None) -> str:
    if report is None:
        return next((line[2:] for line in _document() if line.startswith(f"- {name}: ")), f"{name}: not tried")
    versions = {"systemd": report["systemd"], **report["versions"]}
    return f"{name}: " + ", ".join(f"{program} {version}" for program, version in versions.items())


def _document() -> list[str]:
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()
