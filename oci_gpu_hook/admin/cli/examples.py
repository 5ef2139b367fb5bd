"""Examples of each command, for its help and its man page: a command line and what it does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "": (
        ("oci-gpu doctor", "can this host give containers its GPUs?"),
        ("oci-gpu install docker", "set Docker up for it"),
        ("oci-gpu plan BUNDLE", "what would this container get, and why?"),
        ("oci-gpu leases", "who holds which GPU?"),
    ),
    "info": (
        ("oci-gpu info", "the driver and the GPUs"),
        ("oci-gpu info --files", "every file of the driver, and what brings it"),
        ("oci-gpu info --json", "for scripts"),
    ),
    "doctor": (
        ("oci-gpu doctor", "look at everything that must be right"),
        ("sudo oci-gpu doctor --run", "and start a container to see"),
        ("oci-gpu doctor --json", "for monitoring; exit status 0 well, 1 warnings, 2 errors"),
    ),
    "request": (("oci-gpu request /run/containerd/…/ID", "what does this bundle ask for?"),),
    "plan": (
        ("oci-gpu plan BUNDLE", "what it gets, why, and what is skipped"),
        ("oci-gpu plan BUNDLE --files", "with every single file"),
        ("oci-gpu plan BUNDLE --json", "the same as CDI edits"),
        ("oci-gpu plan --env NVIDIA_VISIBLE_DEVICES=0", "before there is a container"),
        ("oci-gpu plan --count 2 --memory 40GiB", "which GPUs would it be now?"),
    ),
    "leases": (
        ("oci-gpu leases", "GPUs and who holds them"),
        ("oci-gpu leases --watch", "redrawn every second"),
        ("oci-gpu leases release 3f2a", "release the lease of a container that is gone"),
    ),
    "gpus": (
        ("oci-gpu gpus", "which are free, held, lost or sick"),
        ("oci-gpu gpus heal 3", "GPU 3 was reset: it can be granted again"),
    ),
    "top": (
        ("oci-gpu top", "what uses each GPU, refreshed every second"),
        ("oci-gpu top --once --json", "the same once, for scripts"),
    ),
    "metrics": (
        ("oci-gpu metrics", "all metrics, as Prometheus reads them"),
        ("oci-gpu metrics --output /var/lib/prometheus/node-exporter/oci-gpu.prom", "for node_exporter"),
        ("oci-gpu metrics --listen 9835", "for a Prometheus on this host"),
    ),
    "log": (
        ("oci-gpu log", "what was granted and refused"),
        ("oci-gpu log --container web", "of one container, by its name or the start of its id"),
        ("oci-gpu log --follow", "the last ten lines, and what is logged from now on"),
    ),
    "verify": (
        ("oci-gpu verify", "all running containers"),
        ("oci-gpu verify 3f2a", "one, by the start of its id"),
        ("oci-gpu verify 4711", "one, by a process in it"),
    ),
    "attach": (
        ("oci-gpu attach web --count 1", "give a running container a free GPU"),
        ("oci-gpu attach 3f2a --devices 2,3 --exclusive", "these, for this container alone"),
    ),
    "watch": (
        ("systemctl enable --now oci-gpu-watch", "put back what containers lose, from now on"),
        ("oci-gpu watch --once", "verify all containers once, and repair them"),
        ("oci-gpu watch --interval 5m", "look less often"),
    ),
    "detach": (
        ("oci-gpu detach web --all", "take all of its GPUs; refused while one is in use"),
        ("oci-gpu detach web --devices 2 --force", "end the processes that use GPU 2 first"),
    ),
    "repair": (
        ("oci-gpu repair 3f2a", "put back what this container lost"),
        ("oci-gpu repair --all", "after a driver upgrade or systemctl daemon-reload"),
    ),
    "cdi": (
        ("sudo oci-gpu cdi refresh", "write this host's specifications into /var/run/cdi"),
        ("oci-gpu cdi generate --name index", "print one, with devices by index only"),
        ("oci-gpu cdi list", "devices of every vendor's specifications"),
        ("oci-gpu cdi validate FILE", "what is wrong with a specification, line by line"),
    ),
    "install": (
        ("oci-gpu install docker --dry-run", "show what would change"),
        ("oci-gpu install podman", "register the hook"),
        ("oci-gpu install docker --also-as nvidia", "serve compose files that say runtime: nvidia"),
        ("oci-gpu install docker --swarm", "have Docker Swarm hand out this node's GPUs"),
        ("oci-gpu install slurm", "serve srun --container"),
    ),
    "uninstall": (
        ("oci-gpu uninstall docker", "put daemon.json back as it was"),
        ("oci-gpu uninstall --all", "out of every engine, with the executables"),
    ),
    "run": (
        ("oci-gpu run", "start a container with a GPU under each installed engine"),
        ("oci-gpu run --engine docker --count 2", "under one"),
        ("oci-gpu run --memory 40GiB IMAGE -- nvidia-smi -L", "another image and command"),
    ),
    "hook-path": (
        ("oci-gpu hook-path", "after each upgrade of the package or of Python"),
        ("oci-gpu hook-path --runtime", "the runtime for Docker and containerd"),
    ),
    "simulate": (
        ("oci-gpu simulate /var/lib/gpu-host --gpus 2", "two H100 for a machine without GPUs"),
        ("oci-gpu simulate DIR --product A100 --mig", "partitioned GPUs"),
    ),
    "config": (
        ("oci-gpu config", "every key with its value in force"),
        ("oci-gpu config --check", "is the file right?"),
        ("oci-gpu config --default > /etc/oci-gpu-hook/config.toml", "a file to start from"),
    ),
    "help": (
        ("oci-gpu help leases release", "what `oci-gpu leases release --help` shows"),
        ("oci-gpu help OGH1303", "more about an error, by its code"),
    ),
    "version": (("oci-gpu version", "as `oci-gpu --version` and `oci-gpu -V`"),),
    "completion": (
        ("oci-gpu completion bash > /etc/bash_completion.d/oci-gpu", "for every user"),
        ("source <(oci-gpu completion zsh)", "for this shell"),
        ("oci-gpu completion fish | source", "likewise"),
    ),
}
