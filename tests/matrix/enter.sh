#!/bin/sh
# Makes a root directory the file system of this mount namespace, and runs the tests there.
#   enter.sh ROOT WORK VENV PIP-CACHE PYTEST-ARGUMENT...
# pivot_root, not chroot: in a chroot the kernel lets nobody make a user namespace.
set -eu
root=$1 work=$2 venv=$3 pip_cache=$4
shift 4

# The upper layer is in memory: it may not lie on an overlay itself, as the disk of a container does.
mount -t tmpfs -o mode=755 tmpfs "$work/layers"
mkdir "$work/layers/upper" "$work/layers/work"
mount -t overlay -o "lowerdir=$root,upperdir=$work/layers/upper,workdir=$work/layers/work" overlay "$work/root"
new=$work/root
chmod 1777 "$work/tmp" "$work/var-tmp"
for kernel in proc sys dev; do
    mount --rbind "/$kernel" "$new/$kernel"
done
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount --bind "$work/tmp" "$new/tmp"
mount --bind "$work/var-tmp" "$new/var/tmp"
mkdir -p "$new/srv/oci-gpu-hook" "$new/root/.cache/pip" "$new/old"
mount --bind "$work/source" "$new/srv/oci-gpu-hook"
mount --bind "$venv" "$new/srv/oci-gpu-hook/.venv"
mount --bind "$pip_cache" "$new/root/.cache/pip"
for file in /etc/resolv.conf /etc/hosts; do # the network is this machine's
    if [ -e "$file" ]; then cat "$file" >"$new$file"; fi
done
if [ -e "$CERTIFICATES" ]; then cat "$CERTIFICATES" >"$new/etc/ssl/certs/ca-certificates.crt"; fi

cd "$new"
pivot_root . old
cd /srv/oci-gpu-hook
umount --lazy /old
rmdir /old

/usr/bin/python3 --version
.venv/bin/pip --version >/dev/null 2>&1 || /usr/bin/python3 -m venv --clear .venv
.venv/bin/pip install --quiet --editable '.[dev]'
rm -rf .venv/libexec # of an earlier checkout
exec .venv/bin/pytest -q "$@"
