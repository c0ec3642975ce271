import Foundation

/// The version of amused_lite whose pictures these are.
public let version = "0.1.0"

/// What was done to an earlier picture of the model's own size, and to which tokens.
public struct Edit: Sendable, Equatable {
    public enum Operation: Sendable, Equatable {
        /// Draws as much anew as `strength` says, above 0 and at most 1.
        case vary(strength: Double)
        /// Draws the marked tokens anew. The result is laid into the earlier picture where `paste` is true.
        case inpaint(cells: [Bool], paste: Bool, feather: Int)
    }

    public let operation: Operation
    public let tokens: [Int32]  // the earlier picture's

    public init(_ operation: Operation, tokens: [Int32]) { (self.operation, self.tokens) = (operation, tokens) }
}

/// A finished picture and how it was made.
public struct Picture: Sendable {
    public let image: RGBImage
    public let recipe: Recipe

    public init(image: RGBImage, recipe: Recipe) { (self.image, self.recipe) = (image, recipe) }

    /// A PNG file that holds the recipe, as amused_lite writes them.
    public func png() -> Data {
        PNG.encode(image, texts: [
            ("parameters", recipe.parameters, false), (Recipe.key, recipe.json, true),
            ("XML:com.adobe.xmp", recipe.provenance, true),
        ])
    }
}

/// Everything that made a picture, its tokens included. `amused-lite verify` draws it again.
public struct Recipe: Sendable {
    static let key = "amused_lite"

    public let request: Pipeline.Request
    public let tokens: [Int32]
    public let model, modelHash: String
    private let engine: String
    private let side, codebookSize: Int

    init(_ request: Pipeline.Request, _ tokens: [Int32], _ manifest: Manifest, _ engine: String) throws {
        self.request = request
        var request = request
        request.settings = try request.settings.complete(manifest.config)
        (self.tokens, self.engine) = (tokens, engine)
        (model, modelHash, side) = (manifest.name, manifest.modelHash, manifest.imageSize)
        codebookSize = manifest.config.uvit.codebookSize
        completed = request.settings
    }

    private let completed: GenerateOptions

    /// As JSON, in the order and the spelling of amused_lite's own.
    var json: String {
        let s = completed
        let side = String(self.side)
        var fields = [
            ("schema", "1"), ("prompt", quoted(request.prompt)), ("negative_prompt", quoted(request.negativePrompt)),
            ("picture", "\(request.picture)"), ("steps", "\(s.steps)"), ("guidance_scale", "\(s.guidanceScale!)"),
            ("guidance_schedule", quoted(s.guidanceSchedule.rawValue)), ("guidance_interval", list(s.guidanceInterval)),
            ("mask_temperature", list(s.maskTemperature)), ("mask_schedule", quoted(s.maskSchedule.rawValue)),
            ("order", quoted(s.order.rawValue)), ("token_temperature", "\(s.tokenTemperature!)"),
            ("top_k", s.topK.map { "\($0)" } ?? "null"), ("top_p", s.topP.map { "\($0)" } ?? "null"),
        ]
        if let minP = s.minP { fields.append(("min_p", "\(minP)")) }  // older versions do not know it
        fields += [
            ("refine", "0"), ("seed", "\(s.seed)"),
            ("micro_conditioning", "[\(side), \(side), 0.0, 0.0, 6.0]"), ("width", side), ("height", side),
            ("model", quoted(model)), ("model_hash", quoted(modelHash)), ("runtime", quoted(engine)),
            ("codebook_size", "\(codebookSize)"), ("tokens", quoted(packed(tokens))),
        ]
        fields += [("edit", edit), ("adapters", "[]"), ("version", quoted(version))]
        return object(fields)
    }

    private var edit: String {
        guard let edit = request.edit else { return "null" }
        let box = ("box", "[0, 0, \(side)]")
        let (name, settings): (String, [(String, String)])
        switch edit.operation {
        case .vary(let strength):
            (name, settings) = ("vary", [("strength", "\(strength)"), ("locked", "null"), box])
        case .inpaint(let cells, let paste, let feather):
            let marked = quoted(Data(packBits(cells.map { $0 ? 1 : 0 }, bits: 1)).base64EncodedString())
            (name, settings) = ("inpaint", [("cells", marked), box, ("paste", "\(paste)"), ("feather", "\(feather)")])
        }
        return object([
            ("operation", quoted(name)), ("settings", object(settings)), ("tokens", quoted(packed(edit.tokens))),
        ])
    }

    /// The text that AUTOMATIC1111's web interface started and most tools read.
    var parameters: String {
        let settings = [
            "Steps: \(completed.steps)", "Sampler: amused", "CFG scale: \(String(format: "%g", completed.guidanceScale!))",
            "Seed: \(completed.seed)", "Size: \(side)x\(side)", "Model hash: \(modelHash.prefix(10))",
            "Model: \(model.contains(",") ? quoted(model) : model)", "Version: amused-lite \(version)",
        ]
        let negative = request.negativePrompt.isEmpty ? [] : ["Negative prompt: \(request.negativePrompt)"]
        return ([request.prompt] + negative + [settings.joined(separator: ", ")]).joined(separator: "\n")
    }

    /// IPTC's digital source type, by which other programs know a picture for machine-made.
    var provenance: String {
        var composite = false
        if case .inpaint = request.edit?.operation { composite = true }
        let kind = composite ? "compositeWithTrainedAlgorithmicMedia" : "trainedAlgorithmicMedia"
        return """
            <?xpacket begin="\u{FEFF}" id="W5M0MpCehiHzreSzNTczkc9d"?>
            <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
            <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
             xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="amused-lite \(version)"
             Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/\(kind)"/>
            </rdf:RDF></x:xmpmeta>
            <?xpacket end="r"?>
            """
    }

    /// Tokens as base64 of the bits they need, most significant first.
    private func packed(_ tokens: [Int32]) -> String {
        "\(tokens.count):\(Data(packBits(tokens, bits: bitsNeeded(codebookSize))).base64EncodedString())"
    }
}

private func bitsNeeded(_ codebookSize: Int) -> Int { max(1, Int.bitWidth - (codebookSize - 1).leadingZeroBitCount) }

private func packBits(_ values: [Int32], bits: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: (values.count * bits + 7) / 8)
    for (index, value) in values.enumerated() {
        for bit in 0..<bits {
            let isSet: Bool = (value >> Int32(bits - 1 - bit)) & 1 == 1
            let at: Int = index * bits + bit
            if isSet { bytes[at / 8] |= UInt8(0x80) >> UInt8(at % 8) }
        }
    }
    return bytes
}

func unpackTokens(_ text: String, codebookSize: Int) throws -> [Int32] {
    let parts = text.split(separator: ":", maxSplits: 1)
    let bits = bitsNeeded(codebookSize)
    guard parts.count == 2, let count = Int(parts[0]), let data = Data(base64Encoded: String(parts[1])),
        (1...(1 << 20)).contains(count), data.count * 8 >= count * bits
    else { throw AmusedError("its tokens are damaged") }
    let bytes = [UInt8](data)
    var tokens = [Int32](repeating: 0, count: count)
    for at in 0..<count * bits {
        let bit = bytes[at / 8] >> UInt8(7 - at % 8) & 1
        tokens[at / bits] = tokens[at / bits] << 1 | Int32(bit)
    }
    guard tokens.allSatisfy({ $0 < codebookSize }) else { throw AmusedError("its tokens are not in its codebook") }
    return tokens
}

private func object(_ fields: [(String, String)]) -> String {
    "{\(fields.map { "\(quoted($0)): \($1)" }.joined(separator: ", "))}"
}

private func list(_ pair: (first: Double, last: Double)) -> String { "[\(pair.first), \(pair.last)]" }

/// A JSON string that leaves everything but control characters as it is.
private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case _ where scalar.value < 32: result += String(format: "\\u%04x", scalar.value)
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
