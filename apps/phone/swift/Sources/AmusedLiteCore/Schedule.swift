import Foundation

/// What share of the tokens is masked as time goes from 0 to 1. MaskGIT's cosine is what aMUSEd is trained with.
public enum MaskSchedule: String, CaseIterable, Sendable, Decodable {
    case cosine, linear, square, cubic, sqrt, arccos

    private static let halfTurn = Float(Double.pi)  // Float.pi is rounded down; this is the number NumPy has

    /// In float32, as the published scheduler computes it: in float64 some counts differ by one.
    public func ratio(_ time: Float) -> Float {
        switch self {
        case .cosine: return cos(time * Self.halfTurn / 2)
        case .linear: return 1 - time
        case .square: return 1 - time * time
        case .cubic: return 1 - pow(time, 3)
        case .sqrt: return 1 - time.squareRoot()
        case .arccos: return acos(time) * 2 / Self.halfTurn
        }
    }

    /// Tokens still masked after each of the steps; the last entry is 0.
    ///
    /// - Parameters:
    ///   - masked: tokens that are masked at time 0.
    ///   - first: enter the schedule late; the entries of earlier steps are left out.
    public func counts(masked: Int, steps: Int, first: Int = 0) -> [Int] {
        precondition(masked >= 1 && steps >= 1 && (0..<steps).contains(first))
        var left = masked
        var counts: [Int] = []
        for step in first + 1..<steps {
            let wanted = Int((Float(masked) * ratio(Float(Double(step) / Double(steps)))).rounded(.down))
            left = max(1, min(left - 1, wanted))
            counts.append(left)
        }
        return counts + [0]
    }

    /// The counts of a late entry with `left` tokens masked, of a schedule that began with `open` tokens.
    func counts(left: Int, open: Int, steps: Int, first: Int) -> [Int] {
        guard left > 0 else { return [Int](repeating: 0, count: steps - first) }
        var left = left
        return counts(masked: open, steps: steps, first: first).dropLast().map {
            left = max(1, min(left - 1, $0))
            return left
        } + [0]
    }
}
