// The numbers behind a picture: Gumbel noise and the mask schedule, bit for bit amused_lite's up to its logarithms.
import Foundation

/// Standard Gumbel noise of one step: Philox4x64-10 (Salmon et al. 2011), counted as NumPy counts.
/// Streams: 0 for tokens, 1 for their order.
func gumbel(seed: UInt64, picture: UInt64, step: UInt64, stream: UInt64, count: Int) -> [Float] {
    var noise: [Float] = []
    noise.reserveCapacity(count + 8)
    var counter: UInt64 = 0
    while noise.count < count {
        counter += 1  // NumPy's first block is that of counter 1
        var (a, b, c, d) = (counter, UInt64(0), UInt64(0), UInt64(0))
        var (left, right) = (seed, picture << 32 | step << 1 | stream)
        for _ in 0..<10 {
            let first = a.multipliedFullWidth(by: 0xD2E7_470E_E14C_6C93)
            let second = c.multipliedFullWidth(by: 0xCA5A_8263_9512_1157)
            (a, b, c, d) = (second.high ^ b ^ left, second.low, first.high ^ d ^ right, first.low)
            left &+= 0x9E37_79B9_7F4A_7C15
            right &+= 0xBB67_AE85_84CA_A73B
        }
        for word in [a, b, c, d] {
            for bits in [UInt32(truncatingIfNeeded: word), UInt32(word >> 32)] {
                let uniform = (Float(bits >> 9) + 0.5) * 0x1p-23  // 23 bits: with 24 the largest would round to 1
                noise.append(-log(-log(uniform)))
            }
        }
    }
    return Array(noise.prefix(count))
}

/// How many tokens stay masked after each step: the published cosine, in float32 as published.
func maskSchedule(tokens: Int, steps: Int) -> [Int] {
    let halfTurn = Float(Double.pi)  // Float.pi is rounded down; this is the number that PyTorch and NumPy have
    var left = tokens
    var counts: [Int] = []
    for step in 1..<steps {
        let time = Float(Double(step) / Double(steps))
        left = max(1, min(left - 1, Int(Float(tokens) * cos(time * halfTurn / 2))))
        counts.append(left)
    }
    return counts + [0]
}
