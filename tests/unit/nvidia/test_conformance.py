"""What NVIDIA's own hook makes of hundreds of containers, and what this project makes of them.

Every case of tests/data/nvidia/requests.json runs against the functions, and against `oci-gpu request` where it is a
bundle. A case comes out the same, or as a row of verdicts.py says; docs/nvidia-compatibility.md
holds the rows and the counts.
"""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.base.config import toml
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.request import prefilter
from tests.paths import DATA, ROOT
from tests.unit.nvidia import bundles, outcomes, verdicts

OTHER_CASES = os.environ.get("NVIDIA_CASES")  # a table of the same form, to run in place of the project's own
CASES_FILES = (OTHER_CASES,) if OTHER_CASES else (DATA / "nvidia/requests.json", DATA / "nvidia/read_in_source.json")
DOCUMENT = ROOT / "docs/nvidia-compatibility.md"
KINDS = frozenset((*outcomes._OURS, *outcomes._OF_JSON))
HEADINGS = {"same": "same", "better": "better, because", "not applicable": "not applicable"}
NOT_COMPARED = object()


def recorded():
    found = []
    for path in CASES_FILES:
        with open(path, encoding="utf-8") as file:
            found += json.load(file)["cases"]
    return found


RECORDED = recorded()
CASES = [case for case in RECORDED if case["kind"] in KINDS]
WITH_BUNDLE = [
    case
    for case in CASES
    if bundles.of_case(case) and verdicts.row_of(case, outcomes.theirs(case))[0] != "not applicable"
]
WARNINGS = {row.warning for row in verdicts.BETTER if row.warning}
own_cases = pytest.mark.skipif(bool(OTHER_CASES), reason="rows and document are about the project's own cases")
each_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
each_bundle = pytest.mark.parametrize("case", WITH_BUNDLE, ids=[case["id"] for case in WITH_BUNDLE])


def expected(case):
    """Return the outcome that must come out, NOT_COMPARED where the case does not apply."""
    theirs = outcomes.theirs(case)
    verdict, row = verdicts.row_of(case, theirs)
    if verdict == "not applicable":
        return NOT_COMPARED
    return row.expected(case, theirs) if row else theirs


@each_case
def test_functions(case):
    wanted = expected(case)
    if wanted is NOT_COMPARED:  # such a row hides no case that comes out as it does for NVIDIA
        assert outcomes.ours(case) != outcomes.theirs(case)
    else:
        assert outcomes.ours(case) == wanted


@each_bundle
def test_the_byte_scan_lets_through_whatever_asks(case):
    bundle = bundles.of_case(case)
    try:
        request = bundle.reading().request
        swarm = toml.parse(bundle.toml).swarm_resource
    except HookError:
        return
    if request is not None:
        assert prefilter.may_ask(bundle.config_text.encode(), bundle.state.encode(), swarm)


@each_bundle
def test_better_is_said_in_a_warning(case):
    """A row's warning is said of its cases, and of no other."""
    _, row = verdicts.row_of(case, outcomes.theirs(case))
    try:
        said = "\n".join(bundles.of_case(case).reading().warnings)
    except HookError:
        said = ""
    assert {text for text in WARNINGS if text in said} == ({row.warning} if row and row.warning else set())


@pytest.fixture
def request_command(tmp_path, monkeypatch, capsys):
    """Run `oci-gpu --config FILE request BUNDLE --json`; return the exit status, the JSON and stderr."""
    monkeypatch.setattr(main, "COMMANDS", ("request",))

    def run(bundle):
        (tmp_path / "config.json").write_text(bundle.config_text)
        (tmp_path / "config.toml").write_text(bundle.toml)
        status = main.main(["--config", str(tmp_path / "config.toml"), "request", str(tmp_path), "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if status == 0 else None, err

    return run


@each_bundle
def test_command(case, request_command):
    if case["kind"] == "hook_blackbox" and json.loads(bundles.state_json()) != _json_or_text(
        bundles.of_case(case).state
    ):
        return  # people give a bundle; the engine's state is not theirs
    wanted = expected(case)
    status, document, err = request_command(bundles.of_case(case))
    if wanted == outcomes.REFUSED:
        assert status == 1
        assert err.startswith("oci-gpu: error: ")
        assert err.count("\n") == 1
        return
    assert (status, err) == (0, "")
    if isinstance(wanted, dict):
        wanted = {name: value for name, value in wanted.items() if name not in ("rootfs", "pid")}
    assert outcomes.of_json(case, document) == wanted


def _json_or_text(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


@own_cases
def test_every_row_has_a_case():
    used = {row for case in CASES if (row := verdicts.row_of(case, outcomes.theirs(case))[1])}
    unused = [row.reason for row in (*verdicts.BETTER, *verdicts.NOT_APPLICABLE) if row not in used]
    assert not unused


def test_better_differs_or_warns():
    for case in CASES:
        theirs = outcomes.theirs(case)
        verdict, row = verdicts.row_of(case, theirs)
        if verdict == "better" and not row.warning and row.expected(case, theirs) == theirs:
            assert "unknown-compat-mode-means-disabled" in case.get("quirks", ()), case["id"]


def report():
    """Return the part of docs/nvidia-compatibility.md that follows from the cases."""
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    rows: dict[tuple[str, str], list[str]] = {}
    for case in CASES:
        verdict, row = verdicts.row_of(case, outcomes.theirs(case))
        counts[verdict] += 1
        kinds.setdefault(case["kind"], Counter())[verdict] += 1
        if row:
            rows.setdefault((verdict, row.reason), []).append(case["id"])
    lines = [
        f"{len(CASES)} cases: " + ", ".join(f"{counts[name]} {heading}" for name, heading in HEADINGS.items()) + ".",
        "",
    ]
    lines += ["| kind | same | better, because | not applicable |", "|---|---|---|---|"]
    lines += [
        f"| {kind} | {' | '.join(str(found[name]) for name in HEADINGS)} |" for kind, found in sorted(kinds.items())
    ]
    for name in ("better", "not applicable"):
        lines += ["", f"### {HEADINGS[name].capitalize()}", "", "| cases | |", "|---|---|"]
        in_order = [row.reason for row in (verdicts.BETTER if name == "better" else verdicts.NOT_APPLICABLE)]
        lines += [f"| {len(rows[name, reason])} | {reason} |" for reason in in_order if (name, reason) in rows]
    return "\n".join(lines)


@own_cases
def test_the_document_says_the_same():
    with open(DOCUMENT, encoding="utf-8") as file:
        assert report() in file.read(), f"docs/nvidia-compatibility.md should hold:\n{report()}"


def test_counts(capsys):
    """Every recorded case is judged, and few are set aside; the line is for people who read the log."""
    counts = Counter(verdicts.row_of(case, outcomes.theirs(case))[0] for case in CASES)
    assert counts["same"] + counts["better"] > 0.95 * len(RECORDED)
    with capsys.disabled():
        print(f"\nNVIDIA conformance: {report().splitlines()[0]}")


@own_cases
def test_no_kind_of_case_is_passed_over():
    assert {case["kind"] for case in RECORDED} == KINDS
