import Foundation

/// The parts of a model, each a graph or a package of its own.
public enum Module: String, CaseIterable, Sendable {
    case encodePrompt = "encode_prompt"
    case unmask
    case decodeImage = "decode_image"
    case encodeImage = "encode_image"
}

/// What of a bundle's `manifest.json` drawing needs; its other entries are for other programs.
public struct Manifest: Decodable, Sendable {
    public struct Config: Decodable, Sendable {
        public struct Text: Decodable, Sendable {
            public let contextLength, startTokenId, endTokenId: Int
        }
        public struct UViT: Decodable, Sendable {
            public let grid, codebookSize, vocabSize: Int
            public var tokens: Int { grid * grid }
            public var maskToken: Int32 { Int32(vocabSize - 1) }
        }
        public let text: Text
        public let uvit: UViT
        public let guidanceScale, tokenTemperature: Double
    }
    public struct File: Decodable, Sendable {
        public let sha256: String
        public let size: Int
    }
    public struct Options: Decodable, Sendable {
        /// Module to Core ML's compute units: "all", "cpu_and_ne", "cpu_and_gpu" or "cpu_only".
        public let computeUnits: [String: String]?
        /// False where `unmask` was exported without its log-probabilities.
        public let logProbs: Bool?
    }
    public struct Input: Decodable, Sendable {
        /// Lengths of its axes; nil where an axis is free.
        public let shape: [Int?]

        public init(from decoder: any Decoder) throws {
            var pair = try decoder.unkeyedContainer()
            _ = try pair.decode(String.self)
            var axes = try pair.nestedUnkeyedContainer()
            var shape: [Int?] = []
            while !axes.isAtEnd {
                if let length = try? axes.decode(Int.self) { shape.append(length) } else {
                    _ = try axes.decode(String.self)
                    shape.append(nil)
                }
            }
            self.shape = shape
        }
    }

    public let name, target: String
    public let imageSize, formatVersion: Int
    public let config: Config
    public let inputs: [String: [String: Input]]
    public let options: Options
    public let files: [String: File]

    /// Hex sha256 that stands for the weights: of the weights file, or of all modules where there is none.
    public var modelHash: String {
        if let weights = files["weights.safetensors"] { return weights.sha256 }
        let names = files.keys.sorted { Array($0.unicodeScalars).lexicographicallyPrecedes(Array($1.unicodeScalars)) }
        return AmusedLiteCore.sha256(of: names.map { "\($0) \(files[$0]!.sha256)\n" }.joined())
    }

    /// Whether the steps' module takes a single row of conditioning, which costs half, as well as a pair.
    public var takesOneRow: Bool { inputs["unmask"]?["block_text"]?.shape.first == .some(nil) }
}

/// A bundle's folder, checked: every file has the size and the hash that the manifest says.
public struct ModelBundle: Sendable {
    public static let formatVersion = 1
    private static let remedy = "copy or download the bundle again"

    public let folder: URL
    public let manifest: Manifest
    public var config: Manifest.Config { manifest.config }

    /// Throws `AmusedError` when a file is missing, has another size or hash, or the manifest cannot be read.
    ///
    /// - Parameter checkHashes: false compares sizes alone; for folders that were checked when they were installed.
    public init(folder: URL, checkHashes: Bool = true) throws {
        self.folder = folder
        let where_ = folder.appendingPathComponent("manifest.json")
        guard let data = try? Data(contentsOf: where_) else {
            throw AmusedError("\(folder.path) is not a bundle: it has no manifest.json; give a bundle folder")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase  // of fields alone: names of files and modules stay
        do { manifest = try decoder.decode(Manifest.self, from: data) } catch {
            throw AmusedError("\(where_.path) cannot be read (\(reason(error))); \(Self.remedy)")
        }
        guard manifest.formatVersion == Self.formatVersion else {
            let got = "format_version \(manifest.formatVersion), expected \(Self.formatVersion)"
            throw AmusedError("\(where_.path) has \(got); update this app or export the bundle again")
        }
        try Self.check(config, where_.path)
        try verify(checkHashes)
    }

    /// A file of the bundle. Throws where the manifest does not list it.
    public func url(_ name: String) throws -> URL {
        guard manifest.files[name] != nil else {
            throw AmusedError("bundle \(folder.path) has no \(name); use a bundle exported with it")
        }
        return folder.appendingPathComponent(name)
    }

    /// Stands for the content of a folder of the bundle.
    public func fingerprint(of name: String) -> String {
        let files = manifest.files.filter { $0.key.hasPrefix("\(name)/") }.sorted { $0.key < $1.key }
        return String(AmusedLiteCore.sha256(of: files.map { "\($0.key) \($0.value.sha256)" }.joined()).prefix(16))
    }

    /// (K, 3) mean colour of every code, for previews.
    public func colours() throws -> [UInt8] {
        let data = [UInt8](try Data(contentsOf: url("colours.npy")))
        let expected = config.uvit.codebookSize * 3
        let header = data.count > 10 ? String(decoding: data[10..<max(10, data.count - expected)], as: UTF8.self) : ""
        guard data.starts(with: [0x93] + Array("NUMPY".utf8)), header.contains("'|u1'"),
            header.contains("(\(config.uvit.codebookSize), 3)"), header.contains("'fortran_order': False")
        else {
            throw AmusedError("colours.npy is no table of \(config.uvit.codebookSize) colours; export the bundle again")
        }
        return Array(data.suffix(expected))
    }

    public func tokenizer() throws -> Tokenizer {
        let text = config.text
        return try Tokenizer(
            file: url("tokenizer.json"), contextLength: text.contextLength, start: text.startTokenId, end: text.endTokenId)
    }

    private static func check(_ config: Manifest.Config, _ path: String) throws {
        let uvit = config.uvit
        let sizes = (1...256).contains(uvit.grid) && (1..<(1 << 20)).contains(uvit.codebookSize)
        guard sizes, uvit.vocabSize > uvit.codebookSize, uvit.tokens * uvit.codebookSize <= 1 << 28,
            (3...4096).contains(config.text.contextLength)
        else { throw AmusedError("\(path) says \(uvit.grid)x\(uvit.grid) tokens of \(uvit.codebookSize) codes; \(remedy)") }
    }

    private func verify(_ hashes: Bool) throws {
        for (name, record) in manifest.files {
            let parts = name.split(separator: "/", omittingEmptySubsequences: false)
            guard !parts.contains(where: { ["", ".", ".."].contains($0) }), !name.contains("\\"), !name.contains(":") else {
                throw AmusedError("files has \(name.prefix(40)), expected a plain path inside the folder; \(Self.remedy)")
            }
            let file = folder.appendingPathComponent(name)
            guard let size = try? FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int else {
                throw AmusedError("\(file.path) is missing although the manifest lists it; \(Self.remedy)")
            }
            guard size == record.size else {
                throw AmusedError("\(file.path) has \(size) bytes, the manifest says \(record.size); \(Self.remedy)")
            }
            guard hashes else { continue }
            let found = try sha256(of: file)
            guard found == record.sha256 else {
                let short = "\(found.prefix(12))..., the manifest says \(record.sha256.prefix(12))..."
                throw AmusedError("\(file.path) is damaged or was changed: sha256 \(short); \(Self.remedy)")
            }
        }
    }
}

/// An error in a few words.
func reason(_ error: any Error) -> String {
    guard let error = error as? DecodingError else { return (error as? AmusedError)?.description ?? "\(error)" }
    switch error {
    case .keyNotFound(let key, _): return "\(key.stringValue) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
        let place = context.codingPath.map(\.stringValue).joined(separator: ".")
        return place.isEmpty ? "it is no JSON of this kind" : "\(place) has another type"
    @unknown default: return "it is no JSON of this kind"
    }
}
