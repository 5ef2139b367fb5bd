"""Starts, attachments, detachments, kills and restarts of real containers in any order, against a model of them.

OCI_GPU_RUNC_STEPS: how many steps (default 100); OCI_GPU_MODEL_SEED: of the choices, to have them again.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import Gpu, SimulatedHost

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]
STEPS = int(os.environ.get("OCI_GPU_RUNC_STEPS", "100"))
SEED = int(os.environ.get("OCI_GPU_MODEL_SEED", random.randrange(1 << 32)))
GPUS = 3
CONTAINERS = 3


@dataclass
class Living:
    """A running container: what it has, as index of a GPU → whether exclusively; `end` stops and deletes it."""

    container: Any
    end: ExitStack
    has: dict[int, bool] = field(default_factory=dict)


class Model:
    """The containers, what is expected of them, and the steps that may happen."""

    def __init__(self, runtime: Any, make_bundle: Any, host: SimulatedHost, chance: random.Random) -> None:
        self.runtime = runtime
        self.make_bundle = make_bundle
        self.host = host
        self.gpus: list[Gpu] = host.gpus()
        self.chance = chance
        self.living: dict[str, Living] = {}
        self.counted: Counter[str] = Counter()
        self.made = 0

    def call(self, name: str, *arguments: str) -> Any:
        path = Path(sys.executable).with_name("oci-gpu")
        root = ("--runtime-root", self.runtime.state_dir) if name in ("attach", "detach") else ()
        done = self.runtime.host.call(path, "--config", self.host.config, name, *arguments, *root, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert "internal error" not in done.stderr, done.stderr
        return done

    def is_free(self, gpu: int, name: str, *, exclusive: bool) -> bool:
        others = [one.has for its, one in self.living.items() if its != name]
        return not any(gpu in has and (exclusive or has[gpu]) for has in others)

    def some(self) -> list[int]:
        return sorted(self.chance.sample(range(GPUS), self.chance.randint(1, 2)))

    def start(self, name: str) -> None:
        asked = self.some() if self.chance.random() < 0.5 else []
        self.made += 1
        gpus = ",".join(map(str, asked)) or None
        bundle = self.make_bundle(
            args=("/bin/sleep", "1000"), gpus=gpus, config=self.host.config, name=f"{name}-{self.made}"
        )
        end = ExitStack()
        free = all(self.is_free(gpu, name, exclusive=False) for gpu in asked)
        try:
            container = end.enter_context(self.runtime.started(bundle))
        except AssertionError:
            assert not free, "it was refused what is free"
            end.close()
            return
        assert free, "it was given what another has exclusively"
        self.living[name] = Living(container, end, dict.fromkeys(asked, False))

    def attach(self, name: str) -> None:
        one, exclusive, wanted = self.living[name], self.chance.random() < 0.4, self.some()
        options = ("--exclusive",) if exclusive else ()
        done = self.call("attach", one.container.id, "--devices", ",".join(map(str, wanted)), *options)
        fits = all(gpu not in one.has and self.is_free(gpu, name, exclusive=exclusive) for gpu in wanted)
        assert (done.returncode == 0) == fits, (done.stdout, done.stderr)
        if fits:
            one.has |= dict.fromkeys(wanted, exclusive)

    def detach(self, name: str) -> None:
        one = self.living[name]
        if one.has and self.chance.random() < 0.6:
            going = sorted(self.chance.sample(sorted(one.has), self.chance.randint(1, len(one.has))))
            done = self.call("detach", one.container.id, "--devices", ",".join(map(str, going)))
        else:
            going = [*one.has]
            done = self.call("detach", one.container.id, "--all")
        assert (done.returncode == 0) == bool(going), done.stderr
        for gpu in going:
            del one.has[gpu]

    def stop(self, name: str) -> None:
        """It ends, and its runtime calls poststop."""
        self.living.pop(name).end.close()

    def kill(self, name: str) -> None:
        """Its process is gone, and nobody has called poststop yet when others ask."""
        one = self.living.pop(name)
        handle = os.pidfd_open(one.container.pid)
        os.kill(one.container.pid, signal.SIGKILL)
        assert select.select([handle], [], [], 30)[0], "it does not end"  # on a busy machine it takes a moment
        os.close(handle)
        self.check()
        one.end.close()

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(name)

    def step(self) -> None:
        name = f"c{self.chance.randrange(CONTAINERS)}"
        steps = (self.attach, self.attach, self.attach, self.detach, self.detach, self.stop, self.kill, self.restart)
        act = self.chance.choice(steps) if name in self.living else self.start
        self.counted[act.__name__] += 1
        act(name)
        self.check()
        if name in self.living:
            self.look_into(self.living[name])

    def check(self) -> None:
        """The record says what the model says."""
        found: dict[str, dict[str, bool]] = {}
        for lease in json.loads(self.call("leases", "--json").stdout):
            for uuid in lease["gpus"]:
                assert uuid not in found.setdefault(lease["container"], {}), "it is on record twice"
                found[lease["container"]][uuid] = lease["exclusive"]
        expected = {
            one.container.id: {self.gpus[gpu].uuid: exclusive for gpu, exclusive in one.has.items()}
            for one in self.living.values()
            if one.has
        }
        assert found == expected

    def look_into(self, one: Living) -> None:
        """A container can open what it has, and nothing else, neither by its nodes nor by one of its own."""
        own = [f"/dev/own{self.made}-{gpu.index}" for gpu in self.gpus]
        asked = [f"open={gpu.node}" for gpu in self.gpus]
        for gpu, path in zip(self.gpus, own, strict=True):
            asked += [f"mknod={path}:195:{gpu.minor}", f"open={path}"]
        seen = one.container.exec("/probe", *asked).seen()
        for gpu, path in zip(self.gpus, own, strict=True):
            has = gpu.index in one.has
            assert seen[f"open={gpu.node}"] == ("ENXIO" if has else "ENOENT")
            assert seen[f"open={path}"] == ("ENXIO" if has else "EPERM")


def test_no_gpu_is_doubled_none_is_lost_and_nothing_is_left(machine, make_bundle, directory, capsys):
    runtime = next(iter(machine.runtimes.values()))
    host = SimulatedHost(Path(make(str(directory / "host"), gpus=GPUS).directory))
    model = Model(runtime, make_bundle, host, random.Random(SEED))
    try:
        for number in range(STEPS):
            try:
                model.step()
            except BaseException:
                print(f"seed {SEED}, step {number}")
                raise
    finally:
        for name in [*model.living]:
            model.stop(name)
    model.check()
    assert not list((host.state_dir / "containers").glob("*.json"))
    for bundle in directory.glob("c*"):
        assert not list(bundle.glob("rootfs/dev/nvidia*"))
        assert not list(bundle.rglob("libcuda*"))
    with capsys.disabled():
        print(f"\n{STEPS} steps, seed {SEED}: {dict(sorted(model.counted.items()))}")
