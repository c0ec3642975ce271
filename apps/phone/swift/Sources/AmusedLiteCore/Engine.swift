import Foundation

/// An array that goes into a module or comes out of it, row-major.
public struct Tensor: Sendable {
    public enum Values: Sendable {
        case floats([Float])
        case ints([Int32])
    }

    public let shape: [Int]
    public let values: Values

    public init(_ floats: [Float], _ shape: [Int]) { (values, self.shape) = (.floats(floats), shape) }
    public init(_ ints: [Int32], _ shape: [Int]) { (values, self.shape) = (.ints(ints), shape) }

    public var floats: [Float] { if case .floats(let values) = values { return values } else { return [] } }
    public var ints: [Int32] { if case .ints(let values) = values { return values } else { return [] } }
}

/// Whatever runs a bundle's modules. Each is loaded at its first call, or by `load` before it.
///
/// `Pipeline` calls one method at a time; engines need not guard themselves.
public protocol Engine: AnyObject, Sendable {
    /// As recipes call it: "coreml", "onnx".
    var name: String { get }

    func load(_ module: Module) async throws
    /// - Parameter outputs: names of those that are wanted; others may be left out.
    func run(_ module: Module, _ inputs: [String: Tensor], outputs: [String]) async throws -> [String: Tensor]
    /// Frees what a module holds; its next call loads it again.
    func release(_ module: Module)
}

/// What the steps need of a prompt: four arrays, one row for a prompt or two for a (negative, prompt) pair.
struct Conditioning: Sendable {
    static let names = ["block_text", "layer_text", "block_modulation", "layer_modulation"]

    let arrays: [String: Tensor]

    init(_ arrays: [String: Tensor]) throws {
        guard Self.names.allSatisfy({ arrays[$0] != nil }) else {
            throw AmusedError("encode_prompt gave \(arrays.keys.sorted().joined(separator: ", ")); export the bundle again")
        }
        self.arrays = arrays
    }

    /// Both rows, the negative one first.
    static func pair(_ negative: Conditioning, _ prompt: Conditioning) throws -> Conditioning {
        try Conditioning(negative.arrays.merging(prompt.arrays) {
            Tensor($0.floats + $1.floats, [2] + $0.shape.dropFirst())
        })
    }
}
