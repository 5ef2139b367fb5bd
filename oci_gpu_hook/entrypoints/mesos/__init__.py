"""Mesos: the program that an agent starts in place of mesos-containerizer, and what it adds to a launch."""
