import Foundation

/// Draws a step's tokens where top-k, top-p or min-p leaves codes out. Exported graphs draw from all codes, so this is
/// done here, on their log-probabilities, in the arithmetic of amused_lite/sampling/distribution.py.
struct TokenDistribution: Sendable {
    private static let known: Float = 1e4  // confidence of tokens that are never masked again

    private let temperature: Float
    private let topK: Int?
    private let topP, minP: Double?

    /// Nil where no code is left out; of complete settings.
    init?(_ settings: GenerateOptions) {
        (topK, topP, minP) = (settings.topK, settings.topP, settings.minP)
        temperature = Float(settings.tokenTemperature!)
        if topK == nil, topP == nil, minP == nil { return nil }
    }

    /// - Parameters:
    ///   - inputs: of the step's module, as `Loop` gives them.
    ///   - logProbs: (N * K), its output.
    /// - Returns: (N) tokens, some masked again, and (N) every token as drawn.
    func unmask(_ inputs: [String: Tensor], _ logProbs: [Float], mask: Int32) throws -> (next: [Int32], guess: [Int32]) {
        let tokens = inputs["tokens"]!.ints
        let (noise, order) = (inputs["token_noise"]!.floats, inputs["order_noise"]!.floats)
        let randomness = inputs["mask_temperature"]!.floats[0]
        let codes = noise.count / tokens.count
        guard logProbs.count == noise.count, !logProbs.contains(where: \.isNaN) else {
            throw AmusedError("the model's predictions are no numbers; get the model again")
        }
        var (guess, confidence) = (tokens, [Float](repeating: Self.known, count: tokens.count))
        for place in tokens.indices where tokens[place] == mask {
            let row = logProbs[place * codes..<(place + 1) * codes]
            let least = self.least(row)
            var (best, code) = (-Float.infinity, row.startIndex)
            for index in row.indices where row[index] >= least {
                let score = row[index] / temperature + noise[index]
                if score > best { (best, code) = (score, index) }
            }
            guess[place] = Int32(code - row.startIndex)
            confidence[place] = row[code] + randomness * order[place]
        }
        let edge = confidence.sorted()[min(Int(inputs["num_masked"]!.ints[0]), tokens.count - 1)]
        return (zip(guess, confidence).map { $1 < edge ? mask : $0 }, guess)
    }

    /// The lowest log-probability, of one token's K, that is drawn among. Equal ones stay in together.
    private func least(_ row: ArraySlice<Float>) -> Float {
        let falling = row.sorted(by: >)
        var (least, count) = (-Float.infinity, falling.count)
        if let topK, topK < count {
            least = falling[topK - 1]
            count = falling.firstIndex { $0 < least } ?? count
        }
        if let topP, topP < 1 {
            var sum = 0.0
            let reached = falling.prefix(count).map { (value: Float) -> Double in
                sum += exp(Double(value - falling[0]))
                return sum
            }
            least = max(least, falling[reached.filter { $0 < topP * sum }.count])
        }
        if let minP { least = max(least, falling[0] + Float(log(minP))) }
        return least
    }
}
