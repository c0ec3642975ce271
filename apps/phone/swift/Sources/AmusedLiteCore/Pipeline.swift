import Foundation

/// The state after one unmask step.
public struct Step: Sendable {
    public let index: Int  // from 0
    public let steps: Int
    public let tokens: [Int32]  // with mask tokens until the last step
    public let sampledTokens: [Int32]  // every token as drawn; for previews
}

/// A model that is ready to draw: prompt in, steps and a picture out. It draws one picture at a time.
///
///     let pipeline = try Pipeline(bundle: bundle, engine: engine)
///     for try await step in pipeline.steps(request) { show(pipeline.preview(step.sampledTokens)) }
public actor Pipeline {
    /// What is to be drawn. An edit starts from an earlier picture's tokens.
    public struct Request: Sendable, Equatable {
        public var prompt: String
        public var negativePrompt = ""
        public var picture = 0  // number within the seed
        public var settings: GenerateOptions
        public var edit: Edit?

        public init(_ prompt: String, negativePrompt: String = "", settings: GenerateOptions = GenerateOptions(), edit: Edit? = nil) {
            (self.prompt, self.negativePrompt, self.settings, self.edit) = (prompt, negativePrompt, settings, edit)
        }
    }

    public static let longestPrompt = 5000  // characters: far more than any model reads

    public nonisolated let bundle: ModelBundle
    public nonisolated let tokenizer: Tokenizer
    public nonisolated let engineName: String
    nonisolated let colours: [UInt8]
    private let engine: any Engine
    private let keepLoaded: Bool
    private var empty: Conditioning?
    private var busy = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// - Parameter keepLoaded: keep every module in memory; false frees what a picture no longer needs.
    public init(bundle: ModelBundle, engine: any Engine, keepLoaded: Bool = false) throws {
        (self.bundle, self.engine, self.keepLoaded, engineName) = (bundle, engine, keepLoaded, engine.name)
        tokenizer = try bundle.tokenizer()
        colours = try bundle.colours()
    }

    /// The steps of one picture. Ending the loop, or cancelling the task that runs it, stops the work after the step
    /// that is under way.
    public nonisolated func steps(_ request: Request) -> AsyncThrowingStream<Step, any Error> {
        AsyncThrowingStream { stream in
            let work = Task {
                do {
                    try await draw(request) { step in stream.yield(step) }
                    stream.finish()
                } catch { stream.finish(throwing: error) }
            }
            stream.onTermination = { _ in work.cancel() }
        }
    }

    /// All steps, then the picture.
    public func picture(_ request: Request) async throws -> Picture {
        var tokens: [Int32] = []
        for try await step in steps(request) { tokens = step.tokens }
        try Task.checkCancellation()
        return try await finish(tokens, request)
    }

    /// The picture of tokens without masks, with its recipe.
    public func finish(_ tokens: [Int32], _ request: Request) async throws -> Picture {
        let recipe = try Recipe(request, tokens, bundle.manifest, engineName)
        return Picture(image: try await decode(tokens), recipe: recipe)
    }

    /// Tokens without masks to pixels.
    public func decode(_ tokens: [Int32]) async throws -> RGBImage {
        await begin()
        defer { end() }
        let side = bundle.manifest.imageSize
        if !keepLoaded { engine.release(.unmask) }
        let output = try await engine.run(.decodeImage, ["tokens": Tensor(tokens, [1, tokens.count])], outputs: ["image"])
        guard let pixels = output["image"]?.floats, pixels.count == 3 * side * side else {
            throw AmusedError("decode_image gave no picture of \(side)x\(side) px; export the bundle again")
        }
        return RGBImage(planes: pixels, width: side, height: side)
    }

    /// A square picture of the model's own size to tokens.
    public func encode(_ image: RGBImage) async throws -> [Int32] {
        await begin()
        defer { end() }
        let side = bundle.manifest.imageSize
        guard image.width == side, image.height == side else {
            throw AmusedError("got a picture of \(image.width)x\(image.height) px, the model takes \(side)x\(side)")
        }
        let output = try await engine.run(
            .encodeImage, ["pixels": Tensor(image.planes, [1, 3, side, side])], outputs: ["image_tokens"])
        if !keepLoaded { engine.release(.encodeImage) }
        return output["image_tokens"]?.ints ?? []
    }

    /// One pixel for each token, in the mean colour of its code.
    public nonisolated func preview(_ tokens: [Int32]) -> RGBImage {
        let grid = bundle.config.uvit.grid
        var pixels: [UInt8] = []
        for token in tokens {
            let start = 3 * Int(token)
            pixels += start + 3 <= colours.count ? colours[start..<start + 3] : [128, 128, 128]
        }
        return RGBImage(width: grid, height: grid, pixels: pixels)
    }

    /// Loads a module before it is needed, for example while the user still writes.
    public func prewarm(_ module: Module) async throws {
        await begin()
        defer { end() }
        try await engine.load(module)
    }

    /// Frees all modules, when the system asks for memory.
    public func releaseAll() async {
        await begin()
        defer { end() }
        Module.allCases.forEach(engine.release)
    }

    private func draw(_ request: Request, _ yield: @Sendable (Step) -> Void) async throws {
        await begin()
        defer { end() }
        try Task.checkCancellation()
        let settings = try request.settings.complete(bundle.config)
        let start = try Start(request, settings, bundle.config)
        let distribution = TokenDistribution(settings)
        if distribution != nil, bundle.manifest.options.logProbs == false {
            throw AmusedError("top_k, top_p and min_p need log_probs, which this bundle leaves out; export it without --no-log-probs")
        }
        let (guided, unguided) = try await condition(request, settings)
        let loop = Loop(config: bundle.config, settings: settings, picture: UInt64(request.picture), start: start)
        var tokens = start.tokens
        for index in 0..<loop.steps {
            try Task.checkCancellation()
            var inputs = loop.inputs(index, tokens)
            let one = loop.scale(index) == 1 && bundle.manifest.takesOneRow
            let rows = one ? unguided : loop.scale(index) == 1 ? try Conditioning.pair(unguided, unguided) : guided
            inputs.merge(rows.arrays) { $1 }
            let guess: [Int32]
            (tokens, guess) = try await unmask(inputs, distribution)
            if index + 1 == loop.steps && tokens.contains(bundle.config.uvit.maskToken) {
                throw AmusedError("the model's predictions are no numbers; get the model again")
            }
            yield(Step(index: index, steps: loop.steps, tokens: tokens, sampledTokens: guess))
        }
    }

    /// One step: (N) tokens, some masked again, and (N) every token as drawn.
    private func unmask(_ inputs: [String: Tensor], _ distribution: TokenDistribution?) async throws -> ([Int32], [Int32]) {
        if let distribution {
            let logProbs = try await engine.run(.unmask, inputs, outputs: ["log_probs"])["log_probs"]?.floats ?? []
            return try distribution.unmask(inputs, logProbs, mask: bundle.config.uvit.maskToken)
        }
        let output = try await engine.run(.unmask, inputs, outputs: ["next_tokens", "guess"])
        guard let next = output["next_tokens"]?.ints, let guess = output["guess"]?.ints,
            next.count == bundle.config.uvit.tokens, guess.count == next.count
        else { throw AmusedError("unmask gave no tokens; export the bundle again") }
        return (next, guess)
    }

    /// The (negative, prompt) pair, and the prompt alone. The empty prompt's half is remembered.
    private func condition(_ request: Request, _ settings: GenerateOptions) async throws -> (Conditioning, Conditioning) {
        for (name, text) in [("prompt", request.prompt), ("negative prompt", request.negativePrompt)] {
            guard text.unicodeScalars.count <= Self.longestPrompt else {
                throw AmusedError("the \(name) has \(text.unicodeScalars.count) characters, at most \(Self.longestPrompt)")
            }
        }
        guard !request.prompt.allSatisfy(\.isWhitespace) else { throw AmusedError("the prompt is empty; say what to draw") }
        let prompt = try await encode(request.prompt)
        let negative: Conditioning
        if request.negativePrompt.isEmpty, let empty { negative = empty } else {
            negative = try await encode(request.negativePrompt)
        }
        if request.negativePrompt.isEmpty { empty = negative }
        if !keepLoaded { engine.release(.encodePrompt) }
        return (try .pair(negative, prompt), prompt)
    }

    private func encode(_ text: String) async throws -> Conditioning {
        let ids = tokenizer.encode(text)
        let side = Float(bundle.manifest.imageSize)
        return try Conditioning(await engine.run(
            .encodePrompt,
            ["text_ids": Tensor(ids, [1, ids.count]), "micro_conditioning": Tensor([side, side, 0, 0, 6], [1, 5])],
            outputs: Conditioning.names))
    }

    // An actor lets others in at every await; engines are to be called by one at a time.
    private func begin() async {
        if busy { await withCheckedContinuation { waiting.append($0) } } else { busy = true }
    }

    private func end() {
        if waiting.isEmpty { busy = false } else { waiting.removeFirst().resume() }
    }
}
