#!/usr/bin/env bash
# A folder with Debian 13's Swift and ONNX Runtime for machines without a Swift of their own (Linux, root, 3.5 GB):
#
#   toolchain.sh make               make the folder, once
#   toolchain.sh run COMMAND ...    run a command of it, in this repository's folders
#
# SWIFT_ROOT names the folder; the default is build/swift-root, which git ignores. SWIFT_MIRROR names the mirror.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../../.." && pwd)
root=${SWIFT_ROOT:-$repository/build/swift-root}
# libre2-11 by name: debootstrap resolves no virtual packages, and libonnxruntime asks for one.
packages=swiftlang,libc6-dev,libstdc++-14-dev,g++,libonnxruntime-dev,libre2-11,ca-certificates

die() { echo "error: $1" >&2; exit 1; }

make_folder() {
  [ -e "$root/.made" ] && { echo "$root is there"; return; }
  [ "$(id -u)" = 0 ] || die "debootstrap needs root, this is $(id -un); install Swift 6 from swift.org and put it on the PATH"
  command -v debootstrap >/dev/null || die "debootstrap is missing; run: apt-get install debootstrap"
  free=$(df --output=avail -BG "$(dirname "$root")" 2>/dev/null | tail -1 | tr -dc 0-9)
  [ "${free:-99}" -ge 6 ] || die "$(dirname "$root") has $free GB free, expected 6; set SWIFT_ROOT to another folder"
  mkdir -p "$root"
  debootstrap --variant=minbase --include="$packages" trixie "$root" "${SWIFT_MIRROR:-http://deb.debian.org/debian}"
  chroot "$root" ldconfig
  rm -rf "$root/var/cache/apt/archives/"*.deb
  touch "$root/.made"
}

run_inside() {
  [ -e "$root/.made" ] || die "$root is not made yet; run: $0 make"
  # A mount namespace of its own: the mounts end with the command, however it ends.
  exec unshare --mount bash -c '
    root=$1 repository=$2 folder=$3; shift 3
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mkdir -p "$root/$repository" &&
    mount --bind "$repository" "$root/$repository" || exit 1
    exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin LANG=C.UTF-8 "${SWIFT_ENVIRONMENT:-A=1}" \
      bash -c "cd \"\$0\" && exec \"\$@\"" "$folder" "$@"' - "$root" "$repository" "$PWD" "$@"
}

case ${1:-} in
  make) make_folder ;;
  run) shift; run_inside "$@" ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
