"""Mesos: what stands before an agent's mesos-containerizer, and what it puts into a launch."""
