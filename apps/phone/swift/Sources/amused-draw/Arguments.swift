import AmusedLiteCore
import Foundation

/// What was typed after `amused-draw`.
struct Arguments {
    static let help = """
        usage: amused-draw PROMPT -m FOLDER [options]

        Draws a picture with a bundle of amused-lite: an ONNX bundle on Linux, a Core ML bundle on a Mac.

          -m, --model FOLDER         the bundle (amused-lite export writes them)
          -o, --output FILE          a .png file (PROMPT.png); a name that is taken gets a number
          -s, --seed N               the same seed draws the same picture (0)
              --picture N            number of the picture within its seed (0)
          -n, --negative-prompt T    what to keep away from
              --steps N              unmask steps (12)
              --guidance-scale G     pull towards the prompt (the model's own)
              --token-temperature T  randomness of the drawing (the model's own)
              --order NAME           confidence or halton (confidence)
              --top-k K              draw among the K likeliest codes only
              --top-p P              draw among the likeliest that together reach P
              --min-p P              draw among codes at least P times as likely as the likeliest
              --from FILE            take settings from a picture; options override
              --vary FILE            draw a picture anew in part; FILE is one that this model drew
              --strength S           how much of it, above 0 and at most 1 (0.5)
              --inpaint FILE         draw a part of a picture anew
              --box L,T,W,H          which part, in pixels
          -q, --quiet                no progress
          -h, --help

        examples:
          amused-draw "a red balloon above a blue house" -m bundle -s 7
          amused-draw "a green balloon above a blue house" -m bundle --vary balloon.png --strength 0.6
          amused-draw "a yellow star" -m bundle --inpaint balloon.png --box 256,0,192,192

        """

    private(set) var prompt: String?
    private(set) var values: [String: String] = [:]
    private(set) var quiet = false
    private(set) var wantsHelp = false

    private static let long = [
        "-m": "--model", "-o": "--output", "-s": "--seed", "-n": "--negative-prompt", "-q": "--quiet", "-h": "--help",
    ]
    private static let known = [
        "--model", "--output", "--seed", "--picture", "--negative-prompt", "--steps", "--guidance-scale",
        "--token-temperature", "--order", "--top-k", "--top-p", "--min-p", "--from", "--vary", "--strength", "--inpaint", "--box",
    ]

    init(_ typed: [String]) throws {
        var rest = typed[...]
        while let word = rest.popFirst() {
            let name = Self.long[word] ?? word
            if name == "--quiet" { quiet = true } else if name == "--help" { wantsHelp = true } else if Self.known.contains(name) {
                guard let value = rest.popFirst() else { throw AmusedError("\(name) needs a value; see --help") }
                values[name] = value
            } else if word.hasPrefix("-"), word.count > 1 {
                throw AmusedError("\(word) is unknown; see --help")
            } else if prompt == nil { prompt = word } else {
                throw AmusedError("got \(prompt!) and \(word), expected one prompt; put it in quotes")
            }
        }
    }

    func number<T: LosslessStringConvertible>(_ name: String, _ type: T.Type) throws -> T? {
        guard let text = values[name] else { return nil }
        guard let number = T(text) else {
            let expected = T.self == Double.self ? "a number" : "a whole number, 0 or more"
            throw AmusedError("\(name) must be \(expected), got \(text)")
        }
        return number
    }

    /// - Parameter earlier: what holds where nothing was typed.
    func settings(_ earlier: GenerateOptions = GenerateOptions()) throws -> GenerateOptions {
        var settings = earlier
        settings.seed = try number("--seed", UInt64.self) ?? settings.seed
        settings.steps = try number("--steps", Int.self) ?? settings.steps
        settings.guidanceScale = try number("--guidance-scale", Double.self) ?? settings.guidanceScale
        settings.tokenTemperature = try number("--token-temperature", Double.self) ?? settings.tokenTemperature
        settings.topK = try number("--top-k", Int.self) ?? settings.topK
        settings.topP = try number("--top-p", Double.self) ?? settings.topP
        settings.minP = try number("--min-p", Double.self) ?? settings.minP
        if let name = values["--order"] {
            guard let order = GenerateOptions.Order(rawValue: name) else {
                throw AmusedError("--order must be confidence or halton, got \(name)")
            }
            settings.order = order
        }
        if values["--inpaint"] != nil { settings.maskSchedule = .linear }
        return settings
    }

    /// Left, top, width, height within a picture of `side` pixels.
    func box(side: Int) throws -> (Int, Int, Int, Int) {
        let numbers = (values["--box"] ?? "").split(separator: ",").compactMap { Int($0) }
        guard numbers.count == 4, numbers[0] >= 0, numbers[1] >= 0, numbers[2] > 0, numbers[3] > 0,
            numbers[0] <= side - numbers[2], numbers[1] <= side - numbers[3]
        else { throw AmusedError("--box must be L,T,W,H within \(side)x\(side) px, got \(values["--box"] ?? "nothing")") }
        return (numbers[0], numbers[1], numbers[2], numbers[3])
    }
}
