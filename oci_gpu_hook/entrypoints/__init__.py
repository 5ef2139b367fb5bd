"""The programs that engines and the Mesos agent start. Each module calls `lifecycle` for the work."""
