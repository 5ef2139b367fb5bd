#!/bin/sh
# Installs this project's Debian package on the node that a pod is on, and teaches its containerd; may be repeated.
#   install-on-node.sh PACKAGE.deb      what daemonset.yaml runs
#   install-on-node.sh --uninstall      takes it back
# Needs a privileged container in the host's pid namespace; all else is the node's own.
set -eu
config=/etc/containerd

on_node() { nsenter --target 1 --mount --uts --ipc --net --pid -- "$@"; }

# A running containerd has read its configuration when it started; it is restarted only where that has changed since.
# Containers run on meanwhile. The time of the directory tells of a file that came or went.
restart_where_changed() {
    started=$(on_node systemctl show --property ActiveEnterTimestamp --value containerd.service)
    if [ -n "$(on_node find "$config" -maxdepth 1 -newermt "$started")" ]; then
        on_node systemctl restart containerd.service
    fi
}

if [ "$1" = --uninstall ]; then
    on_node oci-gpu uninstall containerd
    restart_where_changed
    on_node dpkg --purge oci-gpu-hook
    exit
fi

on_node sh -c 'cat >/run/oci-gpu-hook.deb' <"$1"
if [ "$(dpkg-deb --field "$1" Version)" != "$(on_node dpkg-query --show --showformat '${Version}' oci-gpu-hook || true)" ]; then
    on_node env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /run/oci-gpu-hook.deb
fi
on_node rm /run/oci-gpu-hook.deb
on_node oci-gpu install containerd
restart_where_changed
