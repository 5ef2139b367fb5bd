"""What others start: engines, the Mesos agent. Each module reads as its story and hands over to `lifecycle`."""
