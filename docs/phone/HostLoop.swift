// A prompt's ids to a picture, with the packages of an amused-lite bundle (iOS 16, macOS 13 and later).
import CoreML

/// From the bundle's manifest.json; these are amused-512's.
struct Model {
    var tokens = 1024, codes = 8192, side: Float = 512
    var mask: Int32 = 8255, guidance: Float = 9, temperature: Float = 1
    var functions = true  // exported for iOS 18: `unmask` has a function "guided" and a function "unguided"
}

/// Pixels (1, 3, side, side) in 0...1. The ids are the prompt's and the empty prompt's, from tokenizer.json.
func draw(_ model: Model, promptIDs: [Int32], emptyIDs: [Int32], seed: UInt64, steps: Int = 12) throws -> MLShapedArray<Float> {
    // 1. What the steps need of both prompts, the empty one first. Its module leaves memory at the end of the block.
    var inputs: [String: MLFeatureValue] = [:]
    do {
        let encodePrompt = try load("encode_prompt", .cpuAndGPU)
        let micro = floats([model.side, model.side, 0, 0, 6], [1, 5])
        let pair = try [emptyIDs, promptIDs].map { try run(encodePrompt, ["text_ids": ints($0), "micro_conditioning": micro]) }
        for name in ["block_text", "layer_text", "block_modulation", "layer_modulation"] {
            let rows = pair.map { $0.featureValue(for: name)!.shapedArrayValue(of: Float.self)! }
            inputs[name] = MLFeatureValue(shapedArray: MLShapedArray(concatenating: rows, alongAxis: 0))
        }
    }
    inputs["guidance_scale"] = floats([model.guidance], [1])
    inputs["token_temperature"] = floats([model.temperature], [1])
    // 2. The steps: every token is masked at first, none at the end.
    var tokens = [Int32](repeating: model.mask, count: model.tokens)
    do {
        let unmask = try load("unmask", .cpuAndNeuralEngine, model.functions ? "guided" : nil)
        for (step, masked) in maskSchedule(tokens: model.tokens, steps: steps).enumerated() {
            let noise = { (stream: UInt64, count: Int) in
                gumbel(seed: seed, picture: 0, step: UInt64(step), stream: stream, count: count)
            }
            inputs["tokens"] = ints(tokens)
            inputs["num_masked"] = MLFeatureValue(shapedArray: MLShapedArray(scalars: [Int32(masked)], shape: [1]))
            inputs["mask_temperature"] = floats([Float(2 - 2 * Double(step) / Double(max(1, steps - 1)))], [1])
            inputs["token_noise"] = floats(noise(0, model.tokens * model.codes), [1, model.tokens, model.codes])
            inputs["order_noise"] = floats(noise(1, model.tokens), [1, model.tokens])
            let output = try run(unmask, inputs)
            tokens = output.featureValue(for: "next_tokens")!.shapedArrayValue(of: Int32.self)!.scalars
        }
    }
    // 3. The picture.
    let output = try run(load("decode_image", .all), ["tokens": ints(tokens)])
    return output.featureValue(for: "image")!.shapedArrayValue(of: Float.self)!
}

func load(_ name: String, _ units: MLComputeUnits, _ function: String? = nil) throws -> MLModel {
    let configuration = MLModelConfiguration()
    configuration.computeUnits = units
    if #available(iOS 18, macOS 15, *) { configuration.functionName = function }
    return try MLModel(contentsOf: Bundle.main.url(forResource: name, withExtension: "mlmodelc")!, configuration: configuration)
}

func run(_ module: MLModel, _ inputs: [String: MLFeatureValue]) throws -> MLFeatureProvider {
    try module.prediction(from: MLDictionaryFeatureProvider(dictionary: inputs))
}

func floats(_ values: [Float], _ shape: [Int]) -> MLFeatureValue {
    MLFeatureValue(shapedArray: MLShapedArray(scalars: values, shape: shape))
}

func ints(_ values: [Int32]) -> MLFeatureValue {
    MLFeatureValue(shapedArray: MLShapedArray(scalars: values, shape: [1, values.count]))
}
