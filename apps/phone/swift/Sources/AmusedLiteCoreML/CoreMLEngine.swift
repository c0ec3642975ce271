#if canImport(CoreML)
import AmusedLiteCore
import CoreML
import Foundation

/// A bundle on Core ML, module by module, so that memory never holds more than the largest.
///
/// A package is compiled at its first use, which takes seconds, or minutes for a Neural Engine; `compile` does it
/// beforehand. What was compiled stays in the caches folder under the package's hash.
public final class CoreMLEngine: Engine, @unchecked Sendable {
    /// Where a module is on its way into memory.
    public enum State: Sendable, Equatable {
        case packaged, compiling, compiled, loading, loaded
    }

    public let name = "coreml"
    private let bundle: ModelBundle
    private let cache: URL
    private let lock = NSLock()
    private var models: [String: MLModel] = [:]  // by module and function
    private var states: [Module: State] = [:]
    private var watchers: [UUID: AsyncStream<[Module: State]>.Continuation] = [:]

    /// - Parameter cache: where compiled packages go; the app's caches folder unless another is given.
    public init(bundle: ModelBundle, cache: URL? = nil) throws {
        guard bundle.manifest.target == "coreml" else {
            throw AmusedError("\(bundle.folder.path) is for \(bundle.manifest.target); export the model to coreml for this system")
        }
        self.bundle = bundle
        let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0]
        self.cache = cache ?? caches.appendingPathComponent("AmusedLite")
        for module in Module.allCases {
            let isCompiled = FileManager.default.fileExists(atPath: compiledURL(module).path)
            states[module] = isCompiled ? .compiled : .packaged
        }
    }

    /// Each change of any module's state, from the present one on.
    public func stateChanges() -> AsyncStream<[Module: State]> {
        AsyncStream { stream in
            let id = UUID()
            lock.withLock {
                watchers[id] = stream
                stream.yield(states)
            }
            stream.onTermination = { [weak self] _ in self?.lock.withLock { self?.watchers[id] = nil } }
        }
    }

    /// Compiles these modules where they are not yet; for a background task after an app's first start.
    public func compile(_ modules: [Module] = Module.allCases) async throws {
        for module in modules {
            try Task.checkCancellation()
            _ = try await compiled(module)
        }
    }

    public func load(_ module: Module) async throws { _ = try await model(module, rows: 2) }

    public func release(_ module: Module) {
        lock.withLock { models = models.filter { !$0.key.hasPrefix("\(module.rawValue):") } }
        if state(module) == .loaded { set(module, .compiled) }
    }

    public func run(_ module: Module, _ inputs: [String: Tensor], outputs: [String]) async throws -> [String: Tensor] {
        let model = try await model(module, rows: inputs["block_text"]?.shape[0] ?? 2)
        let features = try MLDictionaryFeatureProvider(dictionary: inputs.mapValues(Self.value))
        let results = try Self.predict(model, features)
        return Dictionary(uniqueKeysWithValues: try outputs.map { name in
            guard let value = results.featureValue(for: name) else {
                throw AmusedError("\(module.rawValue) gave no \(name); export the bundle again")
            }
            return (name, Self.tensor(value))
        })
    }

    // Not in an async function: there Swift would choose the asynchronous method, which iOS 16 has not.
    private static func predict(_ model: MLModel, _ features: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try model.prediction(from: features)
    }

    private func state(_ module: Module) -> State? { lock.withLock { states[module] } }

    private func set(_ module: Module, _ state: State) {
        lock.withLock {
            states[module] = state
            watchers.values.forEach { $0.yield(states) }
        }
    }

    /// Under the hash of the package, so that another bundle's is never taken for it.
    private func compiledURL(_ module: Module) -> URL {
        cache.appendingPathComponent("\(bundle.fingerprint(of: "\(module.rawValue).mlpackage"))-\(module.rawValue).mlmodelc")
    }

    private func compiled(_ module: Module) async throws -> URL {
        let target = compiledURL(module)
        if FileManager.default.fileExists(atPath: target.path) { return target }
        let package = bundle.folder.appendingPathComponent("\(module.rawValue).mlpackage")
        set(module, .compiling)
        do {
            let temporary = try await MLModel.compileModel(at: package)
            try FileManager.default.createDirectory(at: cache, withIntermediateDirectories: true)
            try FileManager.default.moveItem(at: temporary, to: target)
        } catch {
            set(module, .packaged)
            guard FileManager.default.fileExists(atPath: target.path) else {  // another task may have been first
                throw AmusedError("\(package.lastPathComponent): Core ML cannot compile it (\(error.localizedDescription))")
            }
        }
        set(module, .compiled)
        return target
    }

    /// - Parameter rows: of conditioning. From iOS 18 on "unguided" takes one, which costs half, and "guided" a pair.
    private func model(_ module: Module, rows: Int) async throws -> MLModel {
        let function = module == .unmask && bundle.manifest.takesOneRow ? (rows == 1 ? "unguided" : "guided") : nil
        let key = "\(module.rawValue):\(function ?? "")"
        if let model = lock.withLock({ models[key] }) { return model }
        let url = try await compiled(module)
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units(module)
        if let function {
            guard #available(iOS 18, macOS 15, *) else {
                throw AmusedError("this bundle is for iOS 18 and macOS 15; export it with --deployment-target iOS17 or iOS16")
            }
            configuration.functionName = function
        }
        set(module, .loading)
        do {
            let model = try await MLModel.load(contentsOf: url, configuration: configuration)
            lock.withLock { models[key] = model }
            set(module, .loaded)
            return model
        } catch {
            set(module, .compiled)
            throw AmusedError("\(module.rawValue): Core ML cannot load it (\(error.localizedDescription)); export it again")
        }
    }

    /// As the bundle advises.
    private func units(_ module: Module) -> MLComputeUnits {
        switch bundle.manifest.options.computeUnits?[module.rawValue] {
        case "cpu_only": return .cpuOnly
        case "cpu_and_gpu": return .cpuAndGPU
        case "cpu_and_ne": return .cpuAndNeuralEngine
        default: return .all
        }
    }

    private static func value(_ tensor: Tensor) -> MLFeatureValue {
        switch tensor.values {
        case .floats(let values): return MLFeatureValue(shapedArray: MLShapedArray(scalars: values, shape: tensor.shape))
        case .ints(let values): return MLFeatureValue(shapedArray: MLShapedArray(scalars: values, shape: tensor.shape))
        }
    }

    private static func tensor(_ value: MLFeatureValue) -> Tensor {
        if value.multiArrayValue?.dataType == .int32, let array = value.shapedArrayValue(of: Int32.self) {
            return Tensor(array.scalars, array.shape)
        }
        let array = value.shapedArrayValue(of: Float.self)
        return Tensor(array?.scalars ?? [], array?.shape ?? [0])
    }
}

#if canImport(Darwin)
/// Lets a pipeline's modules go when the system runs short of memory, as soon as the picture under way is done.
public final class MemoryPressure: @unchecked Sendable {
    private let source: any DispatchSourceMemoryPressure

    public init(_ pipeline: Pipeline) {
        source = DispatchSource.makeMemoryPressureSource(eventMask: [.warning, .critical], queue: .global())
        source.setEventHandler { Task { await pipeline.releaseAll() } }
        source.resume()
    }

    deinit { source.cancel() }
}
#endif
#endif
