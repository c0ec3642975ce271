import Foundation

extension Recipe {
    private static let largestFile = 64 << 20  // bytes

    /// An earlier picture: what it can be edited from, and how it was drawn.
    public struct Source: Sendable {
        public let prompt, negativePrompt: String
        public let tokens: [Int32]
        public let modelHash: String
        public let seed: UInt64
        public let isEdited: Bool
        let text: String

        /// Reads a recipe's JSON.
        init(text: String) throws {
            let stored = try Self.decoded(Stored.self, text)
            guard stored.schema == 1, (1...(1 << 24)).contains(stored.codebookSize) else { throw AmusedError("another schema") }
            (prompt, negativePrompt, self.text) = (stored.prompt, stored.negativePrompt, text)
            tokens = try unpackTokens(stored.tokens, codebookSize: stored.codebookSize)
            (modelHash, seed, isEdited) = (stored.modelHash, stored.seed, stored.edit != nil)
        }

        /// What draws the same tokens again. Throws and names it where the recipe asks for what this package has not.
        public func request(_ manifest: Manifest) throws -> Pipeline.Request {
            let order: Order
            do { order = try Self.decoded(Order.self, text) } catch {
                throw AmusedError("the recipe asks for what is not drawn here (\(reason(error))); draw it with amused-lite")
            }
            let side = manifest.imageSize
            try Self.refuse([
                ("refine", order.refine != 0), ("adapters", !order.adapters.isEmpty),
                ("stopped_after", order.stoppedAfter != nil), ("guidance_every", (order.guidanceEvery ?? 1) != 1),
                ("micro_conditioning", order.microConditioning != [Double(side), Double(side), 0, 0, 6]),
            ])
            var request = Pipeline.Request(prompt, negativePrompt: negativePrompt, settings: try order.settings(seed))
            request.picture = order.picture
            request.edit = try order.edit?.edit(order.codebookSize, manifest)
            return request
        }

        fileprivate static func refuse(_ found: [(name: String, isThere: Bool)]) throws {
            guard let name = found.first(where: \.isThere)?.name else { return }
            throw AmusedError("the recipe has \(name), which is not drawn here; draw it with amused-lite")
        }

        private static func decoded<T: Decodable>(_ type: T.Type, _ text: String) throws -> T {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return try decoder.decode(type, from: Data(text.utf8))
        }
    }

    private struct Stored: Decodable {
        struct AnyEdit: Decodable {}
        let schema: Int
        let prompt, negativePrompt, modelHash, tokens: String
        let codebookSize: Int
        let seed: UInt64
        let edit: AnyEdit?
    }

    /// The fields that say how to draw.
    private struct Order: Decodable {
        let picture, steps, codebookSize, refine: Int
        let guidanceScale, tokenTemperature: Double
        let guidanceSchedule: GenerateOptions.GuidanceSchedule
        let guidanceInterval, maskTemperature, microConditioning: [Double]
        let maskSchedule: MaskSchedule
        let order: GenerateOptions.Order
        let topK, stoppedAfter, guidanceEvery: Int?
        let topP, minP: Double?
        let adapters: [String]
        let edit: StoredEdit?

        func settings(_ seed: UInt64) throws -> GenerateOptions {
            guard guidanceInterval.count == 2, maskTemperature.count == 2, (0...Int(UInt32.max)).contains(picture) else {
                throw AmusedError("the recipe's numbers are damaged; get the file again")
            }
            var all = GenerateOptions(steps: steps, seed: seed)
            (all.guidanceScale, all.tokenTemperature) = (guidanceScale, tokenTemperature)
            (all.guidanceSchedule, all.maskSchedule, all.order) = (guidanceSchedule, maskSchedule, order)
            all.guidanceInterval = (guidanceInterval[0], guidanceInterval[1])
            all.maskTemperature = (maskTemperature[0], maskTemperature[1])
            (all.topK, all.topP, all.minP) = (topK, topP, minP)
            return all
        }
    }

    private struct StoredEdit: Decodable {
        struct Settings: Decodable {
            let strength: Double?
            let cells, locked: String?
            let box: [Int]?
            let paste: Bool?
            let feather: Int?
        }
        let operation, tokens: String
        let settings: Settings

        func edit(_ codebookSize: Int, _ manifest: Manifest) throws -> Edit {
            let uvit = manifest.config.uvit
            try Source.refuse([
                ("the edit \(operation)", !["vary", "inpaint"].contains(operation)), ("locked", settings.locked != nil),
                ("an edit of another size", settings.box != [0, 0, manifest.imageSize]),
            ])
            let tokens = try unpackTokens(self.tokens, codebookSize: codebookSize)
            if operation == "vary" { return Edit(.vary(strength: settings.strength ?? 0), tokens: tokens) }
            let bytes = [UInt8](Data(base64Encoded: settings.cells ?? "") ?? Data())
            guard bytes.count == (uvit.tokens + 7) / 8, let paste = settings.paste, let feather = settings.feather else {
                throw AmusedError("the recipe's edit is damaged; get the file again")
            }
            let cells = (0..<uvit.tokens).map { bytes[$0 / 8] >> UInt8(7 - $0 % 8) & 1 == 1 }
            return Edit(.inpaint(cells: cells, paste: paste, feather: feather), tokens: tokens)
        }
    }

    /// Reads the recipe in a PNG file of this program or of amused_lite.
    public static func read(_ file: URL) throws -> Source {
        let size = (try? FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int) ?? 0
        guard size <= largestFile else { throw AmusedError("\(file.path) has \(size) bytes, at most \(largestFile) are read") }
        guard let data = try? Data(contentsOf: file) else { throw AmusedError("\(file.path) cannot be read; give a PNG file") }
        let texts: [String: String]
        do { texts = try PNG.texts(data) } catch { throw AmusedError("\(file.path): \(reason(error))") }
        guard let text = texts[key] else {
            throw AmusedError("\(file.path) holds no recipe; give a picture that amused-lite drew")
        }
        do { return try Source(text: text) } catch {
            throw AmusedError("\(file.path): its recipe cannot be read (\(reason(error))); get the file again")
        }
    }
}
