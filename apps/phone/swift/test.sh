#!/usr/bin/env bash
# Builds and tests the package: test.sh [PICTURES]. Uses the swift on the PATH, else the folder that toolchain.sh made.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
root=${SWIFT_ROOT:-$repository/build/swift-root}
vectors=$repository/build/swift-vectors
cd "$here"

if command -v swift >/dev/null; then inside=(); elif [ -e "$root/.made" ]; then inside=(./toolchain.sh run); else
  echo "make test-swift was skipped: there is no swift on the PATH and no folder $root; apps/phone/swift/toolchain.sh make"
  exit 0
fi
# Python's own ONNX Runtime, so that both compute alike; Debian's prints hundreds of lines about schemas, too.
libraries=$repository/build/swift-onnxruntime
found=$(python -c 'import onnxruntime, pathlib; print(*(pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))')
mkdir -p "$libraries"
cp "$found" "$libraries/libonnxruntime.so.1" && ln -sf libonnxruntime.so.1 "$libraries/libonnxruntime.so"
python vectors.py "$vectors" "${1:-3}"
options=(--scratch-path "$repository/build/swift" -c release -j "${JOBS:-1}" -Xlinker "-L$libraries" -Xlinker -rpath -Xlinker "$libraries")
"${inside[@]}" swift build "${options[@]}" --product amused-draw
AMUSED_VECTORS=$vectors SWIFT_ENVIRONMENT="AMUSED_VECTORS=$vectors" \
  "${inside[@]}" swift test "${options[@]}" -Xswiftc -enable-testing
"${inside[@]}" ./check-apple.sh "$repository/build/swift/apple"
