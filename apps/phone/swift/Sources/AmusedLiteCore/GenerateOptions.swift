import Foundation

/// How a picture is sampled. The names are those of amused_lite's recipes; nil stands for the model's own default.
public struct GenerateOptions: Sendable, Equatable {
    /// The order in which tokens are fixed: by confidence (MaskGIT), or spread evenly (Besnier et al. 2025).
    public enum Order: String, Sendable, Decodable { case confidence, halton }
    /// Linear rises from 1 (Muse, Chang et al. 2023, section 2.7).
    public enum GuidanceSchedule: String, Sendable, Decodable { case constant, linear }

    public var steps = 12
    /// Pull towards the prompt; 1 is none, and costs half.
    public var guidanceScale: Double?
    public var guidanceSchedule = GuidanceSchedule.constant
    /// The share of the steps that are guided.
    public var guidanceInterval = (first: 0.0, last: 1.0)
    /// Randomness of the order, at the first and at the last step.
    public var maskTemperature = (first: 2.0, last: 0.0)
    public var maskSchedule = MaskSchedule.cosine
    public var order = Order.confidence
    /// Randomness of the drawing.
    public var tokenTemperature: Double?
    /// Draw among so many likeliest codes; among the likeliest that together reach a share; among those at least so many
    /// times as likely as the likeliest. The module `unmask` then has to give out `log_probs`.
    public var topK: Int?
    public var topP, minP: Double?
    public var seed: UInt64 = 0

    public init(steps: Int = 12, seed: UInt64 = 0) { (self.steps, self.seed) = (steps, seed) }

    public static func == (a: GenerateOptions, b: GenerateOptions) -> Bool {
        a.steps == b.steps && a.guidanceScale == b.guidanceScale && a.guidanceInterval == b.guidanceInterval
            && a.guidanceSchedule == b.guidanceSchedule && a.topK == b.topK && a.topP == b.topP && a.minP == b.minP
            && a.maskTemperature == b.maskTemperature && a.maskSchedule == b.maskSchedule && a.order == b.order
            && a.tokenTemperature == b.tokenTemperature && a.seed == b.seed
    }

    /// With the model's defaults in place of nil. Throws where a number is out of range.
    func complete(_ config: Manifest.Config) throws -> GenerateOptions {
        var all = self
        all.guidanceScale = guidanceScale ?? config.guidanceScale
        all.tokenTemperature = tokenTemperature ?? config.tokenTemperature
        let most = config.uvit.tokens
        guard (1...most).contains(steps) else { throw AmusedError("steps must be 1 to \(most), got \(steps)") }
        try check("guidance_scale", all.guidanceScale!, 0...100)
        try check("token_temperature", all.tokenTemperature!, 0.01...10)
        for (name, share) in [("top_p", topP), ("min_p", minP)] {
            guard let share, !(share > 0 && share <= 1) else { continue }
            throw AmusedError("\(name) must be above 0 and at most 1, got \(share)")
        }
        if let topK, topK < 1 { throw AmusedError("top_k must be 1 or more, got \(topK)") }
        for (name, pair, range) in [
            ("guidance_interval", guidanceInterval, 0.0...1.0), ("mask_temperature", maskTemperature, 0.0...1000.0),
        ] {
            try check(name, pair.0, range)
            try check(name, pair.1, range)
        }
        guard guidanceInterval.first <= guidanceInterval.last else {
            throw AmusedError("guidance_interval must rise, got \(guidanceInterval.first) to \(guidanceInterval.last)")
        }
        return all
    }

    private func check(_ name: String, _ value: Double, _ range: ClosedRange<Double>) throws {
        guard range.contains(value) else {
            throw AmusedError("\(name) must be \(range.lowerBound) to \(range.upperBound), got \(value)")
        }
    }

    /// The scale of each step; of complete settings. Step i of n stands at i / n of the way.
    func guidanceScales() -> [Float] {
        let rising = guidanceSchedule == .linear && steps > 1
        return spaced(rising ? 1 : guidanceScale!, guidanceScale!).enumerated().map { index, scale in
            let time = Double(index) / Double(steps)
            return guidanceInterval.first <= time && time < guidanceInterval.last ? Float(scale) : 1
        }
    }

    func maskTemperatures() -> [Float] { spaced(maskTemperature.first, maskTemperature.last).map { Float($0) } }

    /// A number for each step, evenly spaced as NumPy spaces them: in double precision, the last one exact.
    private func spaced(_ first: Double, _ last: Double) -> [Double] {
        let between = Double(steps - 1)
        return (0..<steps).map { index in
            if index == steps - 1 && steps > 1 { return last }
            return steps == 1 ? first : Double(index) * ((last - first) / between) + first
        }
    }
}

/// How far a variation goes back into the schedule: 0 for strength 1, which draws everything anew.
func firstStep(strength: Double, steps: Int) throws -> Int {
    guard strength > 0, strength <= 1 else { throw AmusedError("strength must be above 0 and at most 1, got \(strength)") }
    let run = Int(Double(steps) * strength)
    guard run >= 1 else {
        throw AmusedError("strength \(strength) of \(steps) steps is less than one step; give more of either")
    }
    return steps - run
}
