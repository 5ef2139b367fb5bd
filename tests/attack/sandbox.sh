#!/bin/sh
# Becomes what a container's first process is when a runtime runs its hooks: in a mount namespace of its own, the rootfs
# a mount of its own with the container's file systems on it, the host's root still underneath.
#
#   unshare --mount --propagation unchanged sandbox.sh ROOTFS [proc] [dev|nodev] | peer
set -eu
rootfs=$1
if [ "${2-}" != peer ]; then
    mount --make-rslave /
    mount --rbind "$rootfs" "$rootfs"
fi
for wanted in "$@"; do
    case $wanted in
    proc) mount -t proc proc "$rootfs/proc" ;;
    dev) mount -t tmpfs -o mode=755 tmpfs "$rootfs/dev" ;;
    nodev) mount -t tmpfs -o mode=755,nodev tmpfs "$rootfs/dev" ;;
    esac
done
echo ready
exec cat
