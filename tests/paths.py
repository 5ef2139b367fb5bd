"""Where the project, the recorded data of the tests and the schemas are, wherever a test stands."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests/data"
SCHEMAS = ROOT / "schemas"
