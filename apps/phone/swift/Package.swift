// swift-tools-version:5.9
import PackageDescription

// Core knows no engine. Apple's systems run bundles through Core ML, Linux runs them through ONNX Runtime's C library.
#if os(Linux)
let engine: [Target] = [
    .systemLibrary(name: "COnnxRuntime"),
    .target(name: "AmusedLiteONNX", dependencies: ["AmusedLiteCore", "COnnxRuntime"]),
]
let engineName = "AmusedLiteONNX"
#else
let engine: [Target] = []
let engineName = "AmusedLiteCoreML"
#endif

let package = Package(
    name: "AmusedLite",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [
        .library(name: "AmusedLite", targets: ["AmusedLiteCore", "AmusedLiteCoreML"]),
        .executable(name: "amused-draw", targets: ["amused-draw"]),
    ],
    targets: engine + [
        .target(name: "AmusedLiteCore"),
        .target(name: "AmusedLiteCoreML", dependencies: ["AmusedLiteCore"]),
        .executableTarget(name: "amused-draw", dependencies: ["AmusedLiteCore", .byName(name: engineName)]),
        .testTarget(name: "AmusedLiteTests", dependencies: ["AmusedLiteCore", .byName(name: engineName)]),
    ]
)
