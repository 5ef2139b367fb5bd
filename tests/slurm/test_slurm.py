"""Containers of Slurm's steps get what Slurm has given the step, and nothing else.

A granted node that the device cgroup lets through fails with ENXIO, because no driver is behind it.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.runtime.test_devices import assert_reaches, reach
from tests.slurm.cluster import OTHER_USER, USER

ALL = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
COUNT = {"io.oci-gpu-hook.count": "4", "io.oci-gpu-hook.exclusive": "true"}
CDI = {"cdi.k8s.io/gpus": "nvidia.com/gpu=all"}


def answers(text: str) -> dict:
    """Return what a probe has answered, wherever it stands in what a step wrote."""
    found = (json.loads(line) for line in text.splitlines() if line.startswith('{"do"'))
    return {answer["do"]: answer["value"] for answer in found}


@pytest.fixture
def bundle(cluster, request):
    """Make a bundle: bundle(env=…, annotations=…, uid=…)."""
    made: list[Path] = []

    def bundle(**options):
        name = "".join(c if c.isalnum() else "-" for c in request.node.name)
        made.append(cluster.bundle(f"{name}-{len(made)}", **options))
        return made[-1]

    return bundle


@pytest.fixture
def ask(cluster, eight):
    """The words of a probe that tries every GPU."""
    return ("/probe", *reach(eight, user_namespace=True))


@pytest.fixture
def step(cluster, ask):
    """Run a step whose container tries every GPU, to its end; return what it saw."""

    def step(bundle, *options, uid: int = USER, env: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> dict:
        command = ("srun", *options, f"--container={bundle}", *ask, *more)
        return answers(cluster.user(*command, uid=uid, env=env).stdout)

    return step


def reached(seen: dict, eight) -> tuple[int, ...]:
    """Return the GPUs that a probe could open, which are those that it found, and no more."""
    indices = tuple(gpu.index for gpu in eight.gpus() if seen[f"open={gpu.node}"] == "ENXIO")
    if indices:
        assert_reaches(seen, eight, indices, own_nodes=False)
    else:
        assert not [name for name in seen["list=/dev"] if "nvidia" in name]
    return indices


def test_a_step_gets_the_gpus_that_slurm_has_given_it(bundle, step, eight):
    seen = step(bundle(), "--gres=gpu:2", more=("dlopen=libcuda.so.1", "stat=/usr/bin/nvidia-smi"))
    assert reached(seen, eight) == (0, 1)
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_they_are_those_of_its_variables(cluster, bundle, eight):
    """What a step without a container is told, and which UUIDs its container has."""
    with Held(cluster, bundle(), "--gres=gpu:3") as _:
        given = cluster.user("srun", "--gres=gpu:2", "sh", "-c", "echo $SLURM_STEP_GPUS").stdout.strip()
        assert given == "3,4"
        told = cluster.user(
            "srun", "--gres=gpu:2", f"--container={bundle()}", "/bin/sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"
        )
    assert told.stdout.strip() == ",".join(eight.gpus()[index].uuid for index in (3, 4))


def test_all_of_them(bundle, step, eight):
    """Where a step has every GPU of the host no device is refused to it, as if Slurm constrained none."""
    assert reached(step(bundle(), "--gres=gpu:8"), eight) == tuple(range(8))


@pytest.mark.parametrize(
    ("env", "annotations"),
    [
        ((), {}),
        (ALL, {}),
        (("OCI_GPU_COUNT=2",), COUNT),
        ((), CDI),
        (("NVIDIA_VISIBLE_DEVICES=3", "CUDA_VERSION=12.4"), {}),
    ],
    ids=["nothing", "variable", "count", "cdi", "name"],
)
@pytest.mark.parametrize(("gres", "indices"), [("--gres=none", ()), ("--gres=gpu:1", (0,))])
def test_no_word_of_a_container_is_a_second_opinion(bundle, step, eight, env, annotations, gres, indices):
    seen = step(bundle(env=env, annotations=annotations), gres, more=("list=/usr/bin",))
    assert reached(seen, eight) == indices
    assert ("nvidia-smi" in seen["list=/usr/bin"]) == bool(indices)


def test_a_variable_of_who_submits_is_none_either(bundle, step, eight):
    lies = ("NVIDIA_VISIBLE_DEVICES=all", "SLURM_STEP_GPUS=5,6", "SLURM_JOB_GPUS=5,6", "CUDA_VISIBLE_DEVICES=5")
    assert reached(step(bundle(), "--gres=gpu:1", env=lies), eight) == (0,)
    assert reached(step(bundle(), env=lies), eight) == ()


@pytest.mark.parametrize(("word", "has_driver"), [("void", False), ("none", True)])
def test_a_container_may_ask_for_less(bundle, step, eight, word, has_driver):
    seen = step(bundle(env=(f"NVIDIA_VISIBLE_DEVICES={word}",)), "--gres=gpu:2", more=("list=/usr/bin",))
    assert not [name for name in seen["list=/dev"] if name[:6] == "nvidia" and name[6:].isdigit()]
    assert ("nvidia-smi" in seen["list=/usr/bin"]) == has_driver


def test_variables_that_number_gpus_number_those_of_the_container(cluster, bundle):
    """A step inherits those of the shell that it was started in, which has others or sees more."""
    env = ("CUDA_VISIBLE_DEVICES=3,4,5", "GPU_DEVICE_ORDINAL=3,4,5")
    script = "echo $CUDA_VISIBLE_DEVICES $GPU_DEVICE_ORDINAL"
    said = cluster.user("srun", "--gres=gpu:2", f"--container={bundle()}", "/bin/sh", "-c", script, env=env).stdout
    assert said.split() == ["0,1", "0,1"]


class Held:
    """A step that holds its GPUs while a block runs. `seen`: what its container saw first."""

    def __init__(self, cluster, bundle, *options, ask: tuple[str, ...] = ("/bin/true",), **how) -> None:
        self.cluster = cluster
        script = f"{' '.join(ask)}; echo ready; read line; echo $line"
        self.process = cluster.popen("srun", *options, f"--container={bundle}", "/bin/sh", "-c", script, **how)

    def __enter__(self):
        lines = []
        while (line := self.process.stdout.readline()) not in ("ready\n", ""):
            lines.append(line)
        assert line, f"{self.process.communicate()}\n{self.cluster.log()}"
        self.seen = answers("".join(lines))
        return self

    def end(self) -> int:
        """Let it end by itself; return its exit status."""
        self.process.communicate("bye\n", timeout=60)
        return self.process.returncode

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()
        self.process.communicate()


def test_jobs_at_one_time_have_different_gpus(cluster, bundle, ask, eight):
    other = bundle(uid=OTHER_USER)
    with (
        Held(cluster, bundle(), "--gres=gpu:3", ask=ask) as first,
        Held(cluster, other, "--gres=gpu:3", ask=ask, uid=OTHER_USER) as second,
    ):
        assert reached(first.seen, eight) == (0, 1, 2)
        assert reached(second.seen, eight) == (3, 4, 5)
        assert [len(lease["gpus"]) for lease in cluster.leases(OTHER_USER)] == [3]


def test_steps_of_one_job_have_parts_of_its_gpus(cluster, bundle, ask, eight):
    """Two steps at one time, one that asks for none, and one that shares what another has."""
    one, probe = bundle(), " ".join(ask)
    start = f"srun --exact -n1 -c1 --container={one}"
    script = f"""
        {start} --gres=gpu:1 -o first /bin/sh -c '{probe}; sleep 3' &
        {start} --gres=gpu:1 -o second /bin/sh -c '{probe}; sleep 3' &
        wait
        {start} --gres=none -o nothing {probe}
        {start} --gres=gpu:2 -o whole /bin/sh -c '{probe}; sleep 3' &
        sleep 1
        srun --overlap -n1 -c1 --container={one} --gres=gpu:2 -o shared {probe}
        wait
    """
    cluster.user("salloc", "-n4", "--gres=gpu:2", "sh", "-c", script)
    seen = {name: reached(answers((cluster.work / "out" / name).read_text()), eight) for name in NAMES}
    assert sorted((seen["first"], seen["second"])) == [(0,), (1,)]
    assert (seen["nothing"], seen["whole"], seen["shared"]) == ((), (0, 1), (0, 1))


NAMES = ("first", "second", "nothing", "whole", "shared")


def test_the_shell_of_salloc(cluster, bundle, ask, eight):
    """Slurm runs it on the node, in the container where one is named, with all GPUs of the job."""
    command = f"salloc --gres=gpu:2 --container={bundle()}"
    terminal = cluster.popen("script", "-qec", command, "/dev/null", env=("SHELL=/bin/sh",))
    found, _ = terminal.communicate(f"{' '.join(ask)}\nexit\n", timeout=60)
    assert reached(answers(found.replace("\r", "")), eight) == (0, 1), found


def test_a_batch_script_in_a_container(cluster, bundle, ask, eight):
    script = cluster.work / "out/batch.sh"
    script.write_text(f"#!/bin/sh\nexec {' '.join(ask)}\n")
    cluster.user("sbatch", "--wait", "--gres=gpu:2", "-o", "batch", f"--container={bundle()}", script)
    assert reached(answers((cluster.work / "out/batch").read_text()), eight) == (0, 1)


def test_cancelled_and_killed_steps_give_back(cluster, bundle, ask, eight):
    for how in (("scancel", "-u", f"user{USER}"), ("scancel", "--signal=KILL", "--full", "-u", f"user{USER}")):
        with Held(cluster, bundle(), "--gres=gpu:8", ask=ask) as held:
            assert reached(held.seen, eight) == tuple(range(8))
            assert len(cluster.leases()) == 1
            cluster(*how)
            assert held.process.wait(timeout=60)
        cluster.until(lambda: not cluster.jobs(), "the job does not end")
        assert cluster.leases() == []
        with Held(cluster, bundle(), "--gres=gpu:8", ask=ask) as again:
            assert reached(again.seen, eight) == tuple(range(8))
            assert again.end() == 0


@pytest.mark.parametrize("moment", ["running", "starting"])
def test_preemption_takes_the_container_away_and_starts_it_again(cluster, bundle, ask, eight, moment):
    """It is queued again under its number, whether or not the runtime could clean up after what was killed."""
    script, output = cluster.work / "out/low.sh", cluster.work / f"out/low-{moment}"
    script.write_text(f"#!/bin/sh\nexec srun --container={bundle()} /bin/sh -c '{' '.join(ask)}; sleep 8'\n")
    cluster.user("sbatch", "-p", "low", "--gres=gpu:8", "-o", output.name, "--open-mode=append", script)
    cluster.until(lambda: len(cluster.leases()) == 1, "the low job does not start")
    if moment == "running":
        cluster.until(lambda: '"list=/dev"' in output.read_text(), "the low job does not start")
    other = bundle(uid=OTHER_USER)
    with Held(cluster, other, "-p", "high", "--gres=gpu:6", ask=ask, uid=OTHER_USER) as high:
        assert reached(high.seen, eight) == tuple(range(6))
        assert cluster.leases() == [], "the container of the job that gave way is gone"
    for job in cluster("squeue", "-h", "-t", "PD", "-o", "%i").split():
        cluster("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm would let it wait for two minutes
    cluster.until(lambda: not cluster.jobs(), "the low job is not started again", 200)
    said = output.read_text()
    assert said.count('"list=/dev"') in ((2,) if moment == "running" else (1, 2)), said
    assert reached(answers(said), eight) == tuple(range(8))


def test_what_a_killed_runtime_has_left_under_the_same_name(cluster, bundle, ask, eight):
    """A job that is queued again has its number, so its containers have their names."""
    one, name = bundle(), "again.1.0.0"
    subprocess.run(["chown", "-R", f"{USER}:{USER}", one], check=True)
    state = f"/tmp/oci-gpu-hook-{USER}/slurm/{name}"
    run = (cluster.machine.libexec / "oci-gpu-slurm", "run", f"user{USER}", name, one)
    command = f"mkdir -p {state}; touch {state}/half; exec {' '.join(map(str, run))}"
    document = json.loads((one / "config.json").read_text())
    document["process"]["args"] = ask
    (one / "config.json").write_text(json.dumps(document))
    seen = answers(cluster.user("srun", "--gres=gpu:2", "sh", "-c", command).stdout)
    assert reached(seen, eight) == (0, 1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_containers_outlive_a_restart_of_slurmd(cluster, bundle, ask, step, eight, how):
    with Held(cluster, bundle(), "--gres=gpu:3", ask=ask) as held:
        cluster.stop_slurmd(how)
        assert held.process.poll() is None
        cluster.start_slurmd()
        assert reached(step(bundle(), "--gres=gpu:2"), eight) == (3, 4)
        assert held.end() == 0
    assert reached(step(bundle(), "--gres=gpu:8"), eight) == tuple(range(8))


def test_what_cleans_up_as_root_is_not_the_users_to_choose(cluster, bundle):
    """The runtime's state is the user's file. slurmstepd asks for its end as root, with the hooks that stand there."""
    one, proof = bundle(), cluster.work / "out/who"
    with Held(cluster, one, "--gres=gpu:1") as held:
        (state,) = cluster.machine.path(f"/tmp/oci-gpu-hook-{USER}/slurm").glob("*/state.json")
        document = json.loads(state.read_text())
        command = {
            "path": "/bin/sh",
            "args": ["sh", "-c", f"id -u >> {proof}; id -g >> {proof}; cat /proc/self/uid_map >> {proof}"],
        }
        hooks = document["config"]["Hooks"] or {}
        document["config"]["Hooks"] = {**hooks, "poststop": [*(hooks.get("poststop") or []), command]}
        state.write_text(json.dumps(document))
        cluster("scancel", "--signal=KILL", "--full", "-u", f"user{USER}")
        held.process.communicate(timeout=60)
    cluster.until(lambda: not cluster.jobs() and not state.exists(), "the container is not cleaned away")
    if proof.exists():
        _, _, inside, outside, size = proof.read_text().split()
        assert (inside, outside, size) == ("0", str(USER), "1"), "root of the user's own namespace, and nobody else"


def test_where_slurm_constrains_nothing_its_variables_decide(cluster, restarted, bundle, step, eight):
    """As Slurm 23.02 and later have them in config.json; 22.05 has there what the shell had that started the step."""
    cluster.constrain(False)
    restarted()
    assert reached(step(bundle(), "--gres=gpu:2", env=("SLURM_STEP_GPUS=2,5", "SLURM_JOB_GPUS=2,3,5")), eight) == (2, 5)
    assert reached(step(bundle(), "--gres=gpu:2", env=("SLURM_JOB_GPUS=7",)), eight) == (7,)
    assert reached(step(bundle(env=ALL)), eight) == (), "Slurm does not say, so it has given none"
    done = cluster.user("srun", f"--container={bundle()}", "/bin/true", env=("SLURM_STEP_GPUS=8",), check=False)
    assert done.returncode
    assert "oci-gpu-slurm: error: SLURM_STEP_GPUS='8': '8' is not a device of this host" in done.stderr


def test_crun(cluster, bundle, step, ask, eight):
    """The executable is as `install slurm --real-runtime` would lay it, which takes long on a busy machine."""
    executable = cluster.machine.libexec / "oci-gpu-slurm"
    text = executable.read_text()
    executable.write_text(text.replace("/runc'))", f"/runc' and {shutil.which('crun')!r}))"))
    try:
        assert reached(step(bundle(), "--gres=gpu:2"), eight) == (0, 1)
        with Held(cluster, bundle(), "--gres=gpu:8", ask=ask) as held:
            assert reached(held.seen, eight) == tuple(range(8))
            cluster("scancel", "-u", f"user{USER}")
            held.process.communicate(timeout=60)
    finally:
        executable.write_text(text)


def test_a_step_of_root(cluster, bundle, ask, eight):
    command = ("srun", "--gres=gpu:2", f"--container={bundle(uid=0, rootless=False)}", *ask)
    assert reached(answers(cluster(*command)), eight) == (0, 1)


def test_doctor_and_uninstall(cluster):
    said = cluster("env", *cluster.machine.command("doctor")[1:], check=False)
    assert "Slurm runs containers by" in said
    path = cluster.machine.path
    try:
        cluster.machine.oci_gpu("uninstall", "slurm")
        assert not path("/etc/slurm/oci.conf").exists()
        assert not path("/etc/slurm/gres.conf").exists()
        assert "is not set up to start" in cluster("env", *cluster.machine.command("doctor")[1:], check=False)
    finally:
        cluster.machine.oci_gpu("install", "slurm", "--directory", cluster.machine.libexec)
    lay = ("install", "slurm", "--dry-run", "--directory", cluster.machine.libexec)
    assert "Nothing to change" in cluster.machine.oci_gpu(*lay)
