import Foundation
#if canImport(CryptoKit)
import CryptoKit
#endif

/// Hex sha256 of a file, read in pieces. On Apple's systems CryptoKit computes it, elsewhere the lines below do.
func sha256(of file: URL) throws -> String {
    let handle = try FileHandle(forReadingFrom: file)
    defer { try? handle.close() }
    #if canImport(CryptoKit)
    var hash = CryptoKit.SHA256()
    while let piece = try handle.read(upToCount: 1 << 22), !piece.isEmpty { hash.update(data: piece) }
    return hash.finalize().map { String(format: "%02x", $0) }.joined()
    #else
    var hash = PlainSHA256()
    while let piece = try handle.read(upToCount: 1 << 22), !piece.isEmpty { hash.update([UInt8](piece)) }
    return hash.finish()
    #endif
}

func sha256(of text: String) -> String {
    var hash = PlainSHA256()
    hash.update([UInt8](text.utf8))
    return hash.finish()
}

/// FIPS 180-4, section 6.2.
struct PlainSHA256 {
    // The first 32 bits of the fractional parts of the square and cube roots of the first primes.
    private static let primes: [Double] = {
        var found: [Int] = []
        for number in 2... where found.count < 64 {
            if !found.contains(where: { number % $0 == 0 }) { found.append(number) }
            if found.count == 64 { break }
        }
        return found.map(Double.init)
    }()
    private static let rounds = primes.map { fraction(cbrt($0)) }

    private static func fraction(_ number: Double) -> UInt32 { UInt32((number - number.rounded(.down)) * 0x1p32) }

    private var state = primes.prefix(8).map { fraction($0.squareRoot()) }
    private var rest: [UInt8] = []
    private var length = 0

    mutating func update(_ bytes: [UInt8]) {
        length += bytes.count
        let all = rest.isEmpty ? bytes : rest + bytes
        var start = 0
        var schedule = [UInt32](repeating: 0, count: 64)
        all.withUnsafeBufferPointer { data in
            while start + 64 <= data.count {
                take(data, start, &schedule)
                start += 64
            }
        }
        rest = Array(all[start...])
    }

    mutating func finish() -> String {
        let bits = UInt64(length) * 8
        var padding: [UInt8] = [0x80]
        while (length + padding.count) % 64 != 56 { padding.append(0) }
        padding += withUnsafeBytes(of: bits.bigEndian) { Array($0) }
        update(padding)
        return state.map { String(format: "%08x", $0) }.joined()
    }

    private mutating func take(_ data: UnsafeBufferPointer<UInt8>, _ start: Int, _ w: inout [UInt32]) {
        func turn(_ x: UInt32, _ n: UInt32) -> UInt32 { (x >> n) | (x << (32 - n)) }
        for i in 0..<16 {
            let at = start + 4 * i
            var word: UInt32 = 0
            for byte in data[at..<at + 4] { word = word << 8 | UInt32(byte) }
            w[i] = word
        }
        for i in 16..<64 {
            let (x, y) = (w[i - 15], w[i - 2])
            let (s, t): (UInt32, UInt32) = (turn(x, 7) ^ turn(x, 18) ^ (x >> 3), turn(y, 17) ^ turn(y, 19) ^ (y >> 10))
            w[i] = w[i - 16] &+ s &+ w[i - 7] &+ t
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        var (e, f, g, h) = (state[4], state[5], state[6], state[7])
        Self.rounds.withUnsafeBufferPointer { rounds in
            for i in 0..<64 {
                let s: UInt32 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)
                let choice: UInt32 = (e & f) ^ (~e & g)
                let one: UInt32 = h &+ s &+ choice &+ rounds[i] &+ w[i]
                let t: UInt32 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)
                let majority: UInt32 = (a & b) ^ (a & c) ^ (b & c)
                let two: UInt32 = t &+ majority
                (h, g, f, e, d, c, b, a) = (g, f, e, d &+ one, c, b, a, one &+ two)
            }
        }
        for (index, value) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= value }
    }
}
