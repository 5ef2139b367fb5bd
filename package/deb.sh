#!/bin/bash
# Makes the Debian package: package/deb.sh DIRECTORY. Needs dpkg-deb, and the virtual environment that .ci/setup makes.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=$1
python=$PWD/.venv/bin/python
version=$("$python" -c 'import oci_gpu_hook; print(oci_gpu_hook.__version__)')
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
lay() { install -D -m "$1" "$2" "$stage$3"; }
lay_text() { install -D -m 644 /dev/stdin "$stage$1"; }
lay_zipped() { gzip -9n | lay_text "$1.gz"; }

home=/usr/lib/oci-gpu-hook
documents=/usr/share/doc/oci-gpu-hook

# A private directory: nothing of it is importable by others, and nothing of others can take its place.
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target "$stage$home" .
rm -rf "$stage$home"/bin "$stage$home"/share "$stage$home"/*.dist-info
lay 644 "$("$python" -c 'import pynvml; print(pynvml.__file__)')" $home/pynvml.py

lay 755 package/debian/oci-gpu /usr/bin/oci-gpu
for unit in oci-gpu-hook-prewarm.service oci-gpu-hook-cdi.service oci-gpu-hook-cdi.path oci-gpu-watch.service \
    oci-gpu-hook.socket oci-gpu-hook.service; do
    lay 644 package/$unit /usr/lib/systemd/system/$unit
done
lay 644 package/72-oci-gpu-hook.rules /usr/lib/udev/rules.d/72-oci-gpu-hook.rules
install -d -m 755 "$stage/etc/oci-gpu-hook"

"$python" package/manuals.py "$stage/manuals"
for page in "$stage"/manuals/*; do
    lay_zipped "/usr/share/man/man${page##*.}/$(basename "$page")" <"$page"
done
rm -r "$stage/manuals"
oci_gpu="$python -m oci_gpu_hook.admin.cli.main completion"
$oci_gpu bash | lay_text /usr/share/bash-completion/completions/oci-gpu
$oci_gpu zsh | lay_text /usr/share/zsh/vendor-completions/_oci-gpu
$oci_gpu fish | lay_text /usr/share/fish/vendor_completions.d/oci-gpu.fish

lay 644 package/debian/lintian-overrides /usr/share/lintian/overrides/oci-gpu-hook
lay 644 package/debian/copyright $documents/copyright
lay_zipped $documents/changelog <CHANGELOG.md
for document in README.md SECURITY.md docs/*.md docs/*.svg docs/*.json docs/decisions/*.md; do
    lay 644 "$document" "$documents/$document"
done
for schema in schemas/*.json; do
    lay 644 "$schema" "$documents/$schema"
done
sed -n '/^```toml$/,/^```$/{/^```/!p}' docs/configuration.md | lay_text $documents/examples/config.toml

mkdir "$stage/DEBIAN"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/" package/debian/control >"$stage/DEBIAN/control"
echo "Installed-Size: $(du -ks --exclude=DEBIAN "$stage" | cut -f1)" >>"$stage/DEBIAN/control"
for script in preinst postinst prerm postrm; do
    install -m 755 "package/debian/$script" "$stage/DEBIAN/$script"
done
install -m 644 package/debian/triggers "$stage/DEBIAN/triggers"

mkdir -p "$output"
file="$output/oci-gpu-hook_${version}_$architecture.deb"
dpkg-deb --root-owner-group --build "$stage" "$file" >/dev/null
echo "$file"
