#!/usr/bin/env bash
# Builds and tests the package: test.sh [PICTURES]. Uses the swift on the PATH, else the folder that toolchain.sh made.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
root=${SWIFT_ROOT:-$repository/build/swift-root}
vectors=$repository/build/swift-vectors
cd "$here"

if command -v swift >/dev/null; then inside=(env); elif [ -e "$root/.made" ]; then inside=(./toolchain.sh run); else
  echo "make test-swift was skipped: there is no swift on the PATH and no folder $root; apps/phone/swift/toolchain.sh make"
  exit 0
fi
python vectors.py "$vectors" "${1:-4}"
options=(--scratch-path "$repository/build/swift" -c release -j "${JOBS:-1}" -Xswiftc -enable-testing)
if [ "$(uname)" = Linux ]; then
  # Python's own ONNX Runtime, so that both compute alike; Debian's prints hundreds of lines about schemas, too.
  libraries=$repository/build/swift-onnxruntime
  mkdir -p "$libraries"
  cp "$(dirname "$(python -c 'import onnxruntime; print(onnxruntime.__file__)')")"/capi/libonnxruntime.so.* "$libraries/libonnxruntime.so.1"
  ln -sf libonnxruntime.so.1 "$libraries/libonnxruntime.so"
  options+=(-Xlinker "-L$libraries" -Xlinker -rpath -Xlinker "$libraries")
fi
"${inside[@]}" swift build "${options[@]}" --build-tests
AMUSED_VECTORS=$vectors SWIFT_ENVIRONMENT="AMUSED_VECTORS=$vectors" \
  "${inside[@]}" swift test "${options[@]}" --skip-build
"${inside[@]}" ./check-apple.sh "$repository/build/swift/apple"
