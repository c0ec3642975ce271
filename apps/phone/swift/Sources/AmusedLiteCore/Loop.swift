import Foundation

/// The tokens that the steps begin with, and where in the schedule. All masked for a new picture, some for an edit.
struct Start: Sendable {
    // An edit's noise begins here: a picture's own seed must not draw the picture's own tokens again.
    static let editNoise: UInt64 = 1 << 20

    let tokens: [Int32]
    var firstStep = 0
    var open: Int  // how many tokens a late entry's schedule started with
    var noiseStep: UInt64 = 0

    init(_ request: Pipeline.Request, _ settings: GenerateOptions, _ config: Manifest.Config) throws {
        let (count, mask) = (config.uvit.tokens, config.uvit.maskToken)
        guard let edit = request.edit else {
            tokens = [Int32](repeating: mask, count: count)
            open = count
            return
        }
        guard edit.tokens.count == count else {
            throw AmusedError("the edited picture has \(edit.tokens.count) tokens, this model takes \(count)")
        }
        noiseStep = Self.editNoise
        switch edit.operation {
        case .inpaint(let cells, _, _):
            guard cells.contains(true) else { throw AmusedError("nothing is marked; paint what shall be drawn anew") }
            tokens = zip(edit.tokens, cells).map { $1 ? mask : $0 }
            open = cells.filter { $0 }.count
        case .vary(let strength):
            firstStep = try AmusedLiteCore.firstStep(strength: strength, steps: settings.steps)
            noiseStep += UInt64(firstStep)
            open = count
            let masked = firstStep == 0
                ? count : settings.maskSchedule.counts(masked: count, steps: settings.steps, first: firstStep - 1)[0]
            let key = (settings.seed, UInt64(request.picture))
            let chance = Noise(seed: key.0, picture: key.1, step: 0, stream: .mask).gumbel(count: count)
            let order = (0..<count).sorted { a, b in chance[a] != chance[b] ? chance[a] > chance[b] : a < b }
            var start = edit.tokens
            for place in order.prefix(masked) { start[place] = mask }
            tokens = start
        }
    }
}

/// What every step takes besides the conditioning: schedule, temperatures and noise.
struct Loop: Sendable {
    let config: Manifest.Config
    let settings: GenerateOptions
    let picture: UInt64
    let noiseStep: UInt64
    private let counts: [Int]
    private let scales, temperatures: [Float]
    private let halton: [Float]?

    var steps: Int { counts.count }

    /// - Parameter settings: complete ones.
    init(config: Manifest.Config, settings: GenerateOptions, picture: UInt64, start: Start) {
        (self.config, self.settings, self.picture, noiseStep) = (config, settings, picture, start.noiseStep)
        let left = start.tokens.filter { $0 == config.uvit.maskToken }.count
        counts = settings.maskSchedule.counts(
            left: left, open: start.open, steps: settings.steps, first: start.firstStep)
        scales = Array(settings.guidanceScales()[start.firstStep...])
        temperatures = Array(settings.maskTemperatures()[start.firstStep...])
        halton = settings.order == .halton ? haltonNoise(grid: config.uvit.grid) : nil
    }

    func scale(_ index: Int) -> Float { scales[index] }

    func inputs(_ index: Int, _ tokens: [Int32]) -> [String: Tensor] {
        let (count, codes) = (config.uvit.tokens, config.uvit.codebookSize)
        func noise(_ stream: Noise.Stream) -> Noise {
            Noise(seed: settings.seed, picture: picture, step: noiseStep + UInt64(index), stream: stream)
        }
        let needed = tokens.map { $0 == config.uvit.maskToken }
        return [
            "tokens": Tensor(tokens, [1, count]),
            "guidance_scale": Tensor([scales[index]], [1]),
            "token_temperature": Tensor([Float(settings.tokenTemperature!)], [1]),
            "mask_temperature": Tensor([halton == nil ? temperatures[index] : 1], [1]),
            "num_masked": Tensor([Int32(counts[index])], [1]),
            "token_noise": Tensor(noise(.tokens).gumbel(rows: needed, columns: codes), [1, count, codes]),
            "order_noise": Tensor(halton ?? noise(.order).gumbel(count: count), [1, count]),
        ]
    }
}

/// In the place of order noise: fixes tokens in the order of the Halton scheduler (Besnier et al. 2025).
func haltonNoise(grid: Int) -> [Float] {
    func value(_ index: Int, _ base: Int) -> Double {
        var (index, value, share) = (index, 0.0, 1.0)
        while index > 0 {
            share /= Double(base)
            value += Double(index % base) * share
            index /= base
        }
        return value
    }
    var noise = [Float](repeating: 0, count: grid * grid)
    var (hit, index) = (0, 1)
    while hit < noise.count {
        let cell = Int(value(index, 3) * Double(grid)) * grid + Int(value(index, 2) * Double(grid))
        if noise[cell] == 0 {
            hit += 1
            noise[cell] = -1e3 * Float(hit)  // further apart than any confidence reaches
        }
        index += 1
    }
    return noise
}
