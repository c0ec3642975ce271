import Foundation

/// PNG files (8 bits, RGB) with texts, as far as pictures with recipes need them.
enum PNG {
    static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    /// - Parameter texts: (keyword, text, whether it goes into an iTXt chunk although Latin-1 would do).
    static func encode(_ image: RGBImage, texts: [(keyword: String, text: String, international: Bool)]) -> Data {
        var bytes = signature
        bytes += chunk("IHDR", number(image.width) + number(image.height) + [8, 2, 0, 0, 0])
        for (keyword, text, international) in texts {
            let key = Array(keyword.utf8)
            if !international, text.unicodeScalars.allSatisfy({ $0.value < 256 }) {
                bytes += chunk("tEXt", key + [0] + text.unicodeScalars.map { UInt8($0.value) })
            } else {
                bytes += chunk("iTXt", key + [0, 0, 0, 0, 0] + Array(text.utf8))
            }
        }
        bytes += chunk("IDAT", zlibCompressed(filtered(image)))
        return Data(bytes + chunk("IEND", []))
    }

    /// Uncompressed texts of a file by keyword. Throws where the file is no PNG or cut short.
    static func texts(_ data: Data) throws -> [String: String] {
        let bytes = [UInt8](data)
        guard bytes.starts(with: signature) else { throw AmusedError("this is no PNG file; give a picture that was drawn here") }
        var texts: [String: String] = [:]
        var at = signature.count
        while at + 12 <= bytes.count {
            var length = 0
            for byte in bytes[at..<at + 4] { length = length << 8 | Int(byte) }
            let kind = String(decoding: bytes[at + 4..<at + 8], as: UTF8.self)
            guard at + 12 + length <= bytes.count else { break }
            let body = bytes[at + 8..<at + 8 + length]
            if kind == "IEND" { return texts }
            if kind == "iTXt" || kind == "tEXt", let end = body.firstIndex(of: 0) {
                let keyword = String(decoding: body[..<end], as: UTF8.self)
                let rest = body[(end + 1)...]
                if kind == "tEXt" {
                    texts[keyword] = String(String.UnicodeScalarView(rest.map { Unicode.Scalar($0) }))
                } else if rest.starts(with: [0, 0]) {  // not compressed; language and translated keyword follow
                    let parts = rest.dropFirst(2).split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
                    texts[keyword] = parts.count == 3 ? String(decoding: parts[2], as: UTF8.self) : nil
                }
            }
            at += 12 + length
        }
        throw AmusedError("this PNG file is cut short; get it again")
    }

    /// Rows with the filter in front whose differences are smallest (the PNG specification, section 12.7).
    private static func filtered(_ image: RGBImage) -> [UInt8] {
        let width = image.width * 3
        var above = [UInt8](repeating: 0, count: width)
        var result: [UInt8] = []
        result.reserveCapacity((width + 1) * image.height)
        for row in 0..<image.height {
            let line = Array(image.pixels[row * width..<(row + 1) * width])
            var (best, least) = ([UInt8](), Int.max)
            for filter in 0..<5 {
                var (coded, sum) = ([UInt8(filter)], 0)
                for at in 0..<width {
                    let left: UInt8 = at >= 3 ? line[at - 3] : 0
                    let corner: UInt8 = at >= 3 ? above[at - 3] : 0
                    let rest = line[at] &- predict(filter, left, above[at], corner)
                    coded.append(rest)
                    sum += Int(Int8(bitPattern: rest).magnitude)
                }
                if sum < least { (best, least) = (coded, sum) }
            }
            result += best
            above = line
        }
        return result
    }

    private static func predict(_ filter: Int, _ left: UInt8, _ up: UInt8, _ corner: UInt8) -> UInt8 {
        switch filter {
        case 1: return left
        case 2: return up
        case 3: return UInt8((Int(left) + Int(up)) / 2)
        case 4:
            let (a, b, c) = (Int(left), Int(up), Int(corner))
            let (x, y, z) = (abs(b - c), abs(a - c), abs(a + b - 2 * c))
            return x <= y && x <= z ? left : y <= z ? up : corner
        default: return 0
        }
    }

    private static func chunk(_ kind: String, _ body: [UInt8]) -> [UInt8] {
        let content = Array(kind.utf8) + body
        return number(body.count) + content + number(Int(crc32(content)))
    }

    private static func number(_ value: Int) -> [UInt8] { bigEndian(UInt32(value)) }

    private static let crcTable: [UInt32] = (0..<256).map { (byte: UInt32) -> UInt32 in
        var value = byte
        for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1 }
        return value
    }

    private static func crc32(_ bytes: [UInt8]) -> UInt32 {
        var sum = ~UInt32(0)
        for byte in bytes { sum = crcTable[Int((sum ^ UInt32(byte)) & 0xFF)] ^ (sum >> 8) }
        return ~sum
    }
}
