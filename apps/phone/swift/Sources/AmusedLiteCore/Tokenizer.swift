import Foundation

/// Prompts to text ids: CLIP's lower-cased byte-level BPE (Radford et al. 2021), with CLIP's own pattern of words.
public struct Tokenizer: Sendable {
    static let wordEnd = "</w>"
    static let special = [Array("<|startoftext|>".unicodeScalars), Array("<|endoftext|>".unicodeScalars)]
    private static let contractions = ["s", "t", "re", "ve", "m", "ll", "d"].map { Array("'\($0)".unicodeScalars) }

    public let contextLength: Int
    public let start, end: Int32
    private let single: [Int32], last: [Int32]  // ids of each byte, within a word and at its end
    private let merges: [UInt64: Merge]

    private struct Merge {
        let rank: Int
        let id: Int32
    }

    private struct File: Decodable {
        struct Model: Decodable {
            let vocab: [String: Int32]
            let merges: [Pair]
        }
        /// "left right", or the two in an array.
        struct Pair: Decodable {
            let left, right: String

            init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                let text = try? container.decode(String.self)
                let parts = try text.map { $0.split(separator: " ").map(String.init) } ?? container.decode([String].self)
                guard parts.count == 2 else {
                    throw DecodingError.dataCorruptedError(in: container, debugDescription: "no pair")
                }
                (left, right) = (parts[0], parts[1])
            }
        }
        let model: Model
    }

    /// Reads the vocabulary and the merges of a `tokenizer.json`; the rules around them are always CLIP's.
    public init(file: URL, contextLength: Int, start: Int, end: Int) throws {
        let remedy = "get the model's tokenizer again"
        let model: File.Model
        do { model = try JSONDecoder().decode(File.self, from: Data(contentsOf: file)).model } catch {
            throw AmusedError("\(file.path) is no tokenizer that can be read (\(reason(error))); \(remedy)")
        }
        self.contextLength = contextLength
        (self.start, self.end) = (Int32(start), Int32(end))
        guard model.vocab["<|startoftext|>"] == self.start, model.vocab["<|endoftext|>"] == self.end else {
            throw AmusedError("\(file.path): its start and end are not \(start) and \(end) as the manifest says; \(remedy)")
        }
        let letters = Self.letters()
        single = letters.map { model.vocab[$0] ?? Int32(end) }
        last = letters.map { model.vocab[$0 + Self.wordEnd] ?? Int32(end) }
        var merges: [UInt64: Merge] = [:]
        for (rank, pair) in model.merges.enumerated() {
            guard let left = model.vocab[pair.left], let right = model.vocab[pair.right],
                let id = model.vocab[pair.left + pair.right]
            else {
                throw AmusedError("\(file.path): merges.\(rank) is not two entries of vocab that make a third; \(remedy)")
            }
            merges[Self.key(left, right)] = Merge(rank: rank, id: id)
        }
        self.merges = merges
    }

    /// Start, the prompt, end, and the end id again as padding. What does not fit is cut; see `count`.
    public func encode(_ text: String) -> [Int32] {
        let room = contextLength - 2
        let ids = [start] + pieces(text, limit: room) + [end]
        return ids + [Int32](repeating: end, count: contextLength - ids.count)
    }

    /// How many ids the text has; more than `contextLength - 2` are cut off.
    public func count(_ text: String) -> Int { pieces(text, limit: .max).count }

    private func pieces(_ text: String, limit: Int) -> [Int32] {
        var ids: [Int32] = []
        for part in Self.splitSpecial(Array(text.unicodeScalars)) {
            if let index = Self.special.firstIndex(of: part) {
                ids.append(index == 0 ? start : end)
            } else {
                for word in Self.words(Self.normalize(part)) where ids.count < limit { ids += merge(word) }
            }
            if ids.count >= limit { break }
        }
        return Array(ids.prefix(limit))
    }

    /// The two special tokens as typed, and what lies between them.
    private static func splitSpecial(_ text: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        var parts: [[Unicode.Scalar]] = [[]]
        var index = 0
        while index < text.count {
            if text[index] == "<", let token = special.first(where: { text[index...].starts(with: $0) }) {
                parts += [token, []]
                index += token.count
            } else {
                parts[parts.count - 1].append(text[index])
                index += 1
            }
        }
        return parts
    }

    /// NFC, then white space as single spaces, then lower case without regard to neighbours.
    private static func normalize(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var string = String.UnicodeScalarView()
        string.append(contentsOf: text)
        var result: [Unicode.Scalar] = []
        for scalar in String(string).precomposedStringWithCanonicalMapping.unicodeScalars {
            if !scalar.properties.isWhitespace {
                result += scalar.properties.lowercaseMapping.unicodeScalars
            } else if result.last != " " {
                result.append(" ")
            }
        }
        return result
    }

    private enum Kind { case letter, number, space, other }

    private static func kind(_ scalar: Unicode.Scalar) -> Kind {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return .letter
        case .decimalNumber, .letterNumber, .otherNumber: return .number
        default: return scalar.properties.isWhitespace ? .space : .other
        }
    }

    /// CLIP's pattern: special tokens, contractions, runs of letters, single digits, runs of other visible signs.
    static func words(_ text: [Unicode.Scalar]) -> [ArraySlice<Unicode.Scalar>] {
        let kinds = text.map(kind)
        var words: [ArraySlice<Unicode.Scalar>] = []
        var index = 0
        func run(_ kind: Kind) -> Int { kinds[index...].firstIndex { $0 != kind } ?? text.count }
        while index < text.count {
            let rest = text[index...]
            var next = index + 1
            if let token = special.first(where: rest.starts) {
                next = index + token.count  // spelled out, it falls into its name and the signs around it
                words += [rest.prefix(2), text[index + 2..<next - 2]]
                words.append(text[next - 2..<next])
                index = next
                continue
            }
            if let short = contractions.first(where: rest.starts) {
                next = index + short.count
            } else if kinds[index] == .letter || kinds[index] == .other {
                next = run(kinds[index])
            }
            if kinds[index] != .space { words.append(text[index..<next]) }
            index = next
        }
        return words
    }

    /// A word's bytes, joined pair by pair: always the pair of lowest rank, the first of its kind.
    private func merge(_ word: ArraySlice<Unicode.Scalar>) -> [Int32] {
        var string = String.UnicodeScalarView()
        string.append(contentsOf: word)
        let bytes = Array(String(string).utf8)
        var ids = bytes.dropLast().map { single[Int($0)] } + [last[Int(bytes.last!)]]
        func rank(_ left: Int32, _ right: Int32) -> Int { merges[Self.key(left, right)]?.rank ?? .max }
        var ranks = zip(ids, ids.dropFirst()).map(rank)
        while let lowest = ranks.min(), lowest != .max, let at = ranks.firstIndex(of: lowest) {
            ids[at] = merges[Self.key(ids[at], ids[at + 1])]!.id
            ids.remove(at: at + 1)
            ranks.remove(at: at)
            if at > 0 { ranks[at - 1] = rank(ids[at - 1], ids[at]) }
            if at < ranks.count { ranks[at] = rank(ids[at], ids[at + 1]) }
        }
        return ids
    }

    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        let high = UInt64(UInt32(bitPattern: left))
        return (high << 32) | UInt64(UInt32(bitPattern: right))
    }

    /// The printable letter that stands for each byte, as in GPT-2.
    private static func letters() -> [String] {
        var next: UInt32 = 256
        return (0..<256).map { (byte: UInt32) in
            if (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte) {
                return String(Unicode.Scalar(byte)!)
            }
            defer { next += 1 }
            return String(Unicode.Scalar(next)!)
        }
    }
}
