// Declarations of the part of Apple's Core ML that AmusedLiteCoreML calls, for type checks where there is no Core ML.
import Foundation

public enum MLComputeUnits: Int { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }

public class MLModelConfiguration: NSObject {
    public var computeUnits: MLComputeUnits = .all
    @available(macOS 15.0, iOS 18.0, *)
    public var functionName: String?
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public init(dictionary: [String: Any]) throws { fatalError("a declaration") }
    public var featureNames: Set<String> { fatalError("a declaration") }
    public func featureValue(for featureName: String) -> MLFeatureValue? { fatalError("a declaration") }
}

public class MLPredictionOptions: NSObject {}

public class MLModel: NSObject {
    public class func compileModel(at modelURL: URL) async throws -> URL { fatalError("a declaration") }
    public class func load(contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()) async throws
        -> MLModel { fatalError("a declaration") }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider { fatalError("a declaration") }
    @available(macOS 14.0, iOS 17.0, *)
    public func prediction(from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions())
        async throws -> any MLFeatureProvider { fatalError("a declaration") }
}

public enum MLMultiArrayDataType: Int { case double, float32, float16, int32, int8 }

public class MLMultiArray: NSObject {
    public var dataType: MLMultiArrayDataType { fatalError("a declaration") }
}

public protocol MLShapedArrayScalar {}
extension Float: MLShapedArrayScalar {}
extension Double: MLShapedArrayScalar {}
extension Int32: MLShapedArrayScalar {}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar { fatalError("a declaration") }
    public var shape: [Int] { fatalError("a declaration") }
    public var scalars: [Scalar] { fatalError("a declaration") }
}

public class MLFeatureValue: NSObject {
    public convenience init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) { fatalError("a declaration") }
    public var multiArrayValue: MLMultiArray? { fatalError("a declaration") }
    public func shapedArrayValue<Scalar: MLShapedArrayScalar>(of type: Scalar.Type) -> MLShapedArray<Scalar>? {
        fatalError("a declaration")
    }
}
