"""Slurm: what its slurmstepd calls for `--container`, and which GPUs Slurm has given the step."""
