"""What each use of CPython's internals saves a start with a GPU: starts with it and without it, interleaved.

    python benchmarks/cpython.py [ROUNDS]

As root, on a simulated host; docs/performance.md has figures.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

from bed import Bed
from bench import hook_case
from measure import Case, interleave

ENV = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
HERE = "base/cpython"
# name → file of the package, text in it, what it is replaced by
WITHOUT = {
    "as it is": (),
    "as it is, again": (),
    "without _json": ((f"{HERE}/json_c.py", "from _json import", "from _absent import"),),
    "without _ctypes": ((f"{HERE}/ctypes_c.py", "from _ctypes import", "from _absent import"),),
    "without the lean os": ((f"{HERE}/hotpath.py", '    scope["install"]()\n', ""),),
    "without links between modules": (
        (
            "admin/install/hotpath_build.py",
            "    if not isinstance(statement, ast.ImportFrom)",
            "    return [statement]\n    if not isinstance(statement, ast.ImportFrom)",
        ),
    ),
    "without the one file": (),
}


def case(name: str, bed: Bed) -> Case:
    for file, text, other in WITHOUT[name]:
        path = bed.work / "site" / "oci_gpu_hook" / file
        source = path.read_text()
        if text not in source:
            raise SystemExit(f"{path} has no {text!r} any more")
        path.write_text(source.replace(text, other))
    config, hook = bed.host(1), bed.hook()
    if name == "without the one file":
        os.unlink(f"{hook}.modules")
    return hook_case(bed, name, [hook, "--config", config], ENV)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    beds = [Bed(machine=False) for _ in WITHOUT]
    try:
        cases = [case(name, bed) for name, bed in zip(WITHOUT, beds, strict=True)]
        interleave(cases, 1)  # the first start makes the inventory
        for each in cases:
            each.samples.clear()
        interleave(cases, rounds)
    finally:
        for bed in beds:
            bed.close()
    whole = cases[0]
    for each in cases:
        pairs = zip(each.samples, whole.samples, strict=True)
        more = statistics.median((mine[0] - its[0]) * 1000 for mine, its in pairs)
        print(f"{each.name:30} {each.cpu * 1000:6.2f} ms CPU {more:+6.2f} ms  {more / whole.cpu / 10:+5.1f} %")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
