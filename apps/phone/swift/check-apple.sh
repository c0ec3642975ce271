#!/usr/bin/env bash
# Type-checks what only Apple's systems build, as far as this one can: check-apple.sh FOLDER [SWIFTC]
#
# AmusedLiteCoreML and the sample app's model are checked against declarations of Core ML (Tests/CoreMLStub). The app's
# views are parsed only, since SwiftUI is nowhere else.
set -euo pipefail

out=$1 swiftc=${2:-swiftc}
cd "$(dirname "$0")"
mkdir -p "$out"
[ "$(uname)" = Linux ] || { echo "Xcode checks these itself"; exit 0; }
module() { "$swiftc" -swift-version 5 -emit-module -parse-as-library -module-name "$1" -emit-module-path "$out/$1.swiftmodule" -I "$out" "${@:2}"; }

module CoreML Tests/CoreMLStub/CoreML.swift
module AmusedLiteCore Sources/AmusedLiteCore/{,*/}*.swift
module AmusedLiteCoreML Sources/AmusedLiteCoreML/*.swift
"$swiftc" -swift-version 5 -typecheck -parse-as-library -I "$out" Example/Studio.swift
"$swiftc" -swift-version 5 -parse Example/*.swift
echo "AmusedLiteCoreML and Example/Studio.swift type-checked, Example's views parsed"
