import Foundation

/// Bytes as a zlib stream (RFC 1950, 1951): repetitions found through hashes of three bytes, in the fixed code.
func zlibCompressed(_ data: [UInt8]) -> [UInt8] {
    var stream = BitStream(bytes: [0x78, 0x9C])
    stream.write(0b011, 3)  // the last block, fixed code
    var newest = [Int](repeating: -1, count: 1 << 15), earlier = [Int](repeating: -1, count: data.count)
    data.withUnsafeBufferPointer { data in
        func hash(_ at: Int) -> Int {
            let (a, b, c) = (Int(data[at]), Int(data[at + 1]), Int(data[at + 2]))
            return ((a << 10) ^ (b << 5) ^ c) & 0x7FFF
        }
        func remember(_ at: Int) {
            guard at + 2 < data.count else { return }
            let key = hash(at)
            earlier[at] = newest[key]
            newest[key] = at
        }
        var at = 0
        while at < data.count {
            var (length, distance) = (0, 0)
            if at + 2 < data.count {
                var (candidate, tries) = (newest[hash(at)], 16)
                let most = min(258, data.count - at)
                while candidate >= 0, at - candidate <= 32_768, tries > 0 {
                    var same = 0
                    while same < most, data[candidate + same] == data[at + same] { same += 1 }
                    if same > length { (length, distance) = (same, at - candidate) }
                    (candidate, tries) = (earlier[candidate], tries - 1)
                }
            }
            let taken = length >= 3 ? length : 1
            if length >= 3 { stream.writeMatch(length, distance) } else { stream.writeLiteral(Int(data[at])) }
            for place in at..<at + taken { remember(place) }
            at += taken
        }
    }
    stream.writeLiteral(256)
    return stream.finished() + bigEndian(adler32(data))
}

func bigEndian(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

private func adler32(_ data: [UInt8]) -> UInt32 {
    var (a, b) = (UInt32(1), UInt32(0))
    for byte in data {
        a = (a + UInt32(byte)) % 65_521
        b = (b + a) % 65_521
    }
    return b << 16 | a
}

/// Bits, the least significant first, as deflate has them.
private struct BitStream {
    // RFC 1951, section 3.2.5: where the codes of lengths and distances begin, and how many bits follow.
    private static let lengths = starts(from: 3, plain: 8, each: 4, most: 5)
    private static let distances = starts(from: 1, plain: 4, each: 2, most: 13)

    private static func starts(from first: Int, plain: Int, each: Int, most: Int) -> [(start: Int, bits: Int)] {
        var found: [(start: Int, bits: Int)] = []
        var next = first
        for bits in 0...most {
            for _ in 0..<(bits == 0 ? plain : each) {
                found.append((next, bits))
                next += 1 << bits
            }
        }
        return found
    }

    var bytes: [UInt8]
    private var held: UInt64 = 0
    private var count = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func write(_ value: Int, _ bits: Int) {
        held |= UInt64(value) << UInt64(count)
        count += bits
        while count >= 8 {
            bytes.append(UInt8(truncatingIfNeeded: held))
            held >>= 8
            count -= 8
        }
    }

    /// Codes go out with their most significant bit first.
    private mutating func writeCode(_ code: Int, _ bits: Int) {
        var reversed = 0
        for bit in 0..<bits where (code >> bit) & 1 == 1 { reversed |= 1 << (bits - 1 - bit) }
        write(reversed, bits)
    }

    mutating func writeLiteral(_ symbol: Int) {
        switch symbol {
        case ..<144: writeCode(0x30 + symbol, 8)
        case ..<256: writeCode(0x190 + symbol - 144, 9)
        case ..<280: writeCode(symbol - 256, 7)
        default: writeCode(0xC0 + symbol - 280, 8)
        }
    }

    mutating func writeMatch(_ length: Int, _ distance: Int) {
        // 258 has a code of its own, the last
        let code = length == 258 ? 28 : Self.lengths.prefix(28).lastIndex { $0.start <= length }!
        writeLiteral(257 + code)
        if length != 258 { write(length - Self.lengths[code].start, Self.lengths[code].bits) }
        let far = Self.distances.lastIndex { $0.start <= distance }!
        writeCode(far, 5)
        write(distance - Self.distances[far].start, Self.distances[far].bits)
    }

    mutating func finished() -> [UInt8] {
        if count > 0 { write(0, 8 - count) }
        return bytes
    }
}
