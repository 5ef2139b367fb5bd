#!/bin/sh
# Makes the mount namespace that it runs in a host of its own for tests, then holds it until its stdin closes:
# nothing mounted below reaches the machine, and all of it goes with this process.
#
#   unshare --mount namespace.sh WORK LAYOUT
#
# LAYOUT is what runtimes are to find on /sys/fs/cgroup: `v1` (hybrid, where the machine is), `v1-only`, `v2`.
set -eu
work=$1
layout=$2

mount --make-rprivate /
case $layout in
v2)
    while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup; done
    mount -t cgroup2 none /sys/fs/cgroup
    ;;
v1*)
    if ! mountpoint -q /sys/fs/cgroup/devices; then # a machine of cgroup v2 still has the controllers that v2 lacks
        mount -t tmpfs -o mode=755 none /sys/fs/cgroup
        for controller in devices freezer; do
            mkdir /sys/fs/cgroup/$controller
            mount -t cgroup -o $controller none /sys/fs/cgroup/$controller
        done
    fi
    # crun refuses a hybrid. The directory stays: removing it would detach the mount for every namespace.
    if [ "$layout" = v1-only ] && mountpoint -q /sys/fs/cgroup/unified; then
        mount -t tmpfs none /sys/fs/cgroup/unified
    fi
    ;;
esac
# /tmp and /var/tmp are nodev on many machines; simulated device nodes must be openable.
mount --bind "$work" "$work"
mount -o remount,bind,dev,suid,exec "$work"
# As systemd leaves a host: whatever leaks out of a container shows.
mount --make-rshared /
echo ready
exec cat
