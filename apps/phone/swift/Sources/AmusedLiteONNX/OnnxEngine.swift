import AmusedLiteCore
import COnnxRuntime
import Foundation

/// A bundle on ONNX Runtime's processor engine, through its C library.
public final class OnnxEngine: Engine, @unchecked Sendable {
    public let name = "onnx"
    private let bundle: ModelBundle
    private let threads: Int32
    private let api: UnsafePointer<OrtApi>
    private var environment: OpaquePointer?
    private var memory: OpaquePointer?
    private var sessions: [Module: OpaquePointer] = [:]

    /// - Parameter threads: processor threads for one operation; all that this process may use unless said otherwise.
    public init(bundle: ModelBundle, threads: Int = ProcessInfo.processInfo.activeProcessorCount) throws {
        guard bundle.manifest.target == "onnx" else {
            throw AmusedError("\(bundle.folder.path) is for \(bundle.manifest.target); export the model to onnx for this system")
        }
        // Some builds report sessions to their makers over the network unless told not to.
        setenv("ORT_DISABLE_TELEMETRY", "1", 0)
        guard let base = OrtGetApiBase(), let api = base.pointee.GetApi(UInt32(ORT_API_VERSION)) else {
            throw AmusedError("ONNX Runtime here is older than version 1.\(ORT_API_VERSION), with which this was built")
        }
        (self.bundle, self.threads, self.api) = (bundle, Int32(threads), api)
        try check(api.pointee.CreateEnv(ORT_LOGGING_LEVEL_FATAL, "amused-lite", &environment))
        try check(api.pointee.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    }

    deinit {
        sessions.values.forEach(api.pointee.ReleaseSession)
        if let memory { api.pointee.ReleaseMemoryInfo(memory) }
        if let environment { api.pointee.ReleaseEnv(environment) }
    }

    public func load(_ module: Module) throws { _ = try session(module) }

    public func release(_ module: Module) {
        if let session = sessions.removeValue(forKey: module) { api.pointee.ReleaseSession(session) }
    }

    public func run(_ module: Module, _ inputs: [String: Tensor], outputs: [String]) throws -> [String: Tensor] {
        let session = try session(module)
        let names = Array(inputs.keys)
        var results = [OpaquePointer?](repeating: nil, count: outputs.count)
        defer { results.compactMap { $0 }.forEach(api.pointee.ReleaseValue) }
        try withStrings(names) { inputNames in
            try withStrings(outputs) { outputNames in
                try withValues(names.map { inputs[$0]! }) { values in
                    try check(api.pointee.Run(
                        session, nil, inputNames, values, values.count, outputNames, outputs.count, &results))
                }
            }
        }
        return Dictionary(uniqueKeysWithValues: try zip(outputs, results).map { ($0, try tensor($1!)) })
    }

    private func session(_ module: Module) throws -> OpaquePointer {
        if let session = sessions[module] { return session }
        let path = try bundle.url("\(module.rawValue).onnx").path
        var options: OpaquePointer?
        var session: OpaquePointer?
        try check(api.pointee.CreateSessionOptions(&options))
        defer { api.pointee.ReleaseSessionOptions(options) }
        try check(api.pointee.SetIntraOpNumThreads(options, threads))
        try check(api.pointee.SetSessionLogSeverityLevel(options, Int32(ORT_LOGGING_LEVEL_FATAL.rawValue)))
        try check(api.pointee.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"))
        do { try check(api.pointee.CreateSession(environment, path, options, &session)) } catch {
            throw AmusedError("\(path): ONNX Runtime cannot load it (\(error)); export the bundle again")
        }
        sessions[module] = session
        return session!
    }

    private func check(_ status: OpaquePointer?) throws {
        guard let status else { return }
        defer { api.pointee.ReleaseStatus(status) }
        let message = api.pointee.GetErrorMessage(status).map { String(cString: $0) } ?? "unknown"
        throw AmusedError(String(message.prefix { !$0.isNewline }.prefix(200)))
    }

    private func withStrings<T>(_ strings: [String], _ body: ([UnsafePointer<CChar>?]) throws -> T) rethrows -> T {
        let copies = strings.map { strdup($0) }
        defer { copies.forEach { free($0) } }
        return try body(copies.map { UnsafePointer($0) })
    }

    /// Values over the arrays' own memory, which lives as long as `body` runs.
    private func withValues(
        _ tensors: [Tensor], _ made: [OpaquePointer?] = [], _ body: ([OpaquePointer?]) throws -> Void
    ) throws {
        guard made.count < tensors.count else { return try body(made) }
        let tensor = tensors[made.count]
        func wrap(_ bytes: UnsafeRawBufferPointer, _ type: ONNXTensorElementDataType) throws {
            var value: OpaquePointer?
            let data = UnsafeMutableRawPointer(mutating: bytes.baseAddress!)
            try check(api.pointee.CreateTensorWithDataAsOrtValue(
                memory, data, bytes.count, tensor.shape.map(Int64.init), tensor.shape.count, type, &value))
            defer { api.pointee.ReleaseValue(value) }
            try withValues(tensors, made + [value], body)
        }
        switch tensor.values {
        case .floats(let array): try array.withUnsafeBytes { try wrap($0, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) }
        case .ints(let array): try array.withUnsafeBytes { try wrap($0, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32) }
        }
    }

    private func tensor(_ value: OpaquePointer) throws -> Tensor {
        var info: OpaquePointer?
        try check(api.pointee.GetTensorTypeAndShape(value, &info))
        defer { api.pointee.ReleaseTensorTypeAndShapeInfo(info) }
        var rank = 0
        try check(api.pointee.GetDimensionsCount(info, &rank))
        var axes = [Int64](repeating: 0, count: rank)
        try check(api.pointee.GetDimensions(info, &axes, rank))
        var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
        try check(api.pointee.GetTensorElementType(info, &type))
        var data: UnsafeMutableRawPointer?
        try check(api.pointee.GetTensorMutableData(value, &data))
        let shape = axes.map { Int($0) }
        let count = shape.reduce(1, *)
        switch type {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return Tensor(Array(UnsafeBufferPointer(start: data!.assumingMemoryBound(to: Float.self), count: count)), shape)
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
            return Tensor(Array(UnsafeBufferPointer(start: data!.assumingMemoryBound(to: Int32.self), count: count)), shape)
        default: throw AmusedError("a module gave numbers of another type than float32 and int32; export the bundle again")
        }
    }
}
