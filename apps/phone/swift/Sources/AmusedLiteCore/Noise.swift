import Foundation

/// Standard Gumbel noise from a counter-based generator: Philox4x64-10 (Salmon et al. 2011), counted as NumPy counts.
///
/// Every step of every picture has its own key, so the same seed means the same noise on every device. Bits are equal
/// everywhere; the logarithms are the platform's own and may differ in the last bit.
public struct Noise: Sendable {
    /// What the numbers are for.
    public enum Stream: UInt64, Sendable {
        case tokens, order
        case mask  // of edits: which tokens are drawn anew
    }

    let key: (UInt64, UInt64)
    let high: UInt64

    /// - Parameters:
    ///   - picture: number within the seed, below 2^32.
    ///   - step: number of the unmask step, below 2^31.
    public init(seed: UInt64, picture: UInt64, step: UInt64, stream: Stream) {
        precondition(picture < 1 << 32 && step < 1 << 31)
        let low: UInt64 = (step << 1) | (stream.rawValue & 1)
        key = (seed, (picture << 32) | low)
        high = stream.rawValue >> 1
    }

    /// Four random words, of block 0, 1 and so on.
    public func words(block: UInt64) -> (UInt64, UInt64, UInt64, UInt64) {
        var (a, b, c, d) = (block &+ 1, UInt64(0), UInt64(0), high)  // NumPy's first block is that of counter 1
        var (left, right) = key
        for _ in 0..<10 {
            let first = a.multipliedFullWidth(by: 0xD2E7_470E_E14C_6C93)
            let second = c.multipliedFullWidth(by: 0xCA5A_8263_9512_1157)
            (a, b, c, d) = (second.high ^ b ^ left, second.low, first.high ^ d ^ right, first.low)
            left &+= 0x9E37_79B9_7F4A_7C15
            right &+= 0xBB67_AE85_84CA_A73B
        }
        return (a, b, c, d)
    }

    /// The first `count` numbers.
    public func gumbel(count: Int) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, filled in
            fill(UnsafeMutableBufferPointer(rebasing: buffer[0..<count]), from: 0)
            filled = count
        }
    }

    /// (rows, columns), where only rows that are needed are drawn; the others are 0.
    public func gumbel(rows needed: [Bool], columns: Int) -> [Float] {
        guard columns % 8 == 0 else { return gumbel(count: needed.count * columns) }
        var noise = [Float](repeating: 0, count: needed.count * columns)
        noise.withUnsafeMutableBufferPointer { buffer in
            for row in needed.indices where needed[row] {
                let start = row * columns
                fill(UnsafeMutableBufferPointer(rebasing: buffer[start..<start + columns]), from: start)
            }
        }
        return noise
    }

    /// Numbers from `first` on, a multiple of 8: one block gives so many.
    private func fill(_ noise: UnsafeMutableBufferPointer<Float>, from first: Int) {
        var block = UInt64(first / 8)
        var index = 0
        while index < noise.count {
            let (a, b, c, d) = words(block: block)
            for word in [a, b, c, d] {
                for bits in [UInt32(truncatingIfNeeded: word), UInt32(word >> 32)] where index < noise.count {
                    // 23 bits: with 24 the largest would round to 1 and its Gumbel be infinite
                    let uniform = (Float(bits >> 9) + 0.5) * 0x1p-23
                    noise[index] = -log(-log(uniform))
                    index += 1
                }
            }
            block &+= 1
        }
    }
}
