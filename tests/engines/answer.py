"""What a container of an engine gave."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass
class Answer:
    """How a container ended and what its probe saw."""

    status: int
    stdout: str
    stderr: str

    def seen(self) -> dict:
        assert self.status == 0, f"exit {self.status}\n{self.stdout}\n{self.stderr}"
        return {answer["do"]: answer["value"] for answer in map(json.loads, self.stdout.splitlines())}
