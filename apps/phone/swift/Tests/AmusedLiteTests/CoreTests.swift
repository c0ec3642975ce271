import Foundation
import XCTest

@testable import AmusedLiteCore

final class CoreTests: XCTestCase {
    func testTokenizerGivesTheIdsOfPython() throws {
        let vectors = try Vectors.all.get()
        let tokenizer = try ModelBundle(folder: vectors.folder).tokenizer()
        var wrong: [String] = []
        for (prompt, ids) in zip(vectors.prompts, vectors.ids) where tokenizer.encode(prompt) != ids {
            wrong.append("\(prompt.debugDescription) \(tokenizer.encode(prompt)) \(ids)")
        }
        XCTAssertGreaterThanOrEqual(vectors.prompts.count, 2000)
        XCTAssert(wrong.isEmpty, "\(wrong.count) of \(vectors.prompts.count):\n\(wrong.prefix(5).joined(separator: "\n"))")
    }

    func testNoiseIsThatOfNumPy() throws {
        for vector in try Vectors.all.get().noise {
            let key = vector.key.map { UInt64($0)! }
            let noise = Noise(seed: key[0], picture: key[1], step: key[2], stream: .init(rawValue: key[3])!)
            let (a, b) = (noise.words(block: 0), noise.words(block: 1))
            let words = [a.0, a.1, a.2, a.3, b.0, b.1, b.2, b.3]
            XCTAssertEqual(words, vector.words.map { UInt64($0)! }, "\(vector.key)")
            for (ours, theirs) in zip(noise.gumbel(count: 16), vector.gumbel) {
                XCTAssertEqual(ours, theirs, accuracy: 2e-6)  // each platform's logarithms
            }
        }
    }

    func testNoiseOfSomeRowsIsThatOfAll() {
        let noise = Noise(seed: 7, picture: 1, step: 2, stream: .tokens)
        let all = noise.gumbel(count: 6 * 16)
        let needed = [true, false, true, true, false, true]
        let some = noise.gumbel(rows: needed, columns: 16)
        for at in all.indices { XCTAssertEqual(some[at], needed[at / 16] ? all[at] : 0) }
        XCTAssertEqual(noise.gumbel(rows: [false, true], columns: 5), noise.gumbel(count: 10))
    }

    func testSchedulesAreThoseOfPython() throws {
        let vectors = try Vectors.all.get()
        for vector in vectors.schedules {
            let schedule = try XCTUnwrap(MaskSchedule(rawValue: vector.name))
            let counts = schedule.counts(masked: vector.masked, steps: vector.steps, first: vector.first)
            XCTAssertEqual(counts, vector.counts, "\(vector)")
        }
        XCTAssertEqual(Set(vectors.schedules.map(\.name)), Set(MaskSchedule.allCases.map(\.rawValue)))
        XCTAssertEqual(haltonNoise(grid: Int(Double(vectors.halton.count).squareRoot())), vectors.halton)
        for temperatures in vectors.maskTemperatures {
            XCTAssertEqual(GenerateOptions(steps: temperatures.count).maskTemperatures(), temperatures)
        }
    }

    func testHashesAreThoseOfTheStandard() {
        // FIPS 180-4's own examples
        XCTAssertEqual(sha256(of: "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        XCTAssertEqual(sha256(of: ""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        let long = String(repeating: "a", count: 1_000_000)
        XCTAssertEqual(sha256(of: long), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    func testDamagedBundlesAreRefusedInOneLine() throws {
        let vectors = try Vectors.all.get()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.copyItem(at: vectors.folder, to: folder)
        defer { try? FileManager.default.removeItem(at: folder) }
        let colours = folder.appendingPathComponent("colours.npy")
        var data = try Data(contentsOf: colours)
        data[data.count - 1] ^= 1
        try data.write(to: colours)
        assertFails({ try ModelBundle(folder: folder) }, "sha256")
        try data.dropLast().write(to: colours)
        assertFails({ try ModelBundle(folder: folder) }, "bytes, the manifest says")
        try FileManager.default.removeItem(at: colours)
        assertFails({ try ModelBundle(folder: folder) }, "is missing although")
        let manifest = folder.appendingPathComponent("manifest.json")
        let text = try String(contentsOf: manifest, encoding: .utf8)
        try text.replacingOccurrences(of: "colours.npy", with: "../colours.npy").write(
            to: manifest, atomically: true, encoding: .utf8)
        assertFails({ try ModelBundle(folder: folder) }, "plain path")
        try Data("{\"name\": 1}".utf8).write(to: manifest)
        assertFails({ try ModelBundle(folder: folder) }, "cannot be read")
        try FileManager.default.removeItem(at: manifest)
        assertFails({ try ModelBundle(folder: folder) }, "no manifest.json")
    }

    private func assertFails<T>(_ body: () throws -> T, _ part: String, line: UInt = #line) {
        XCTAssertThrowsError(try body(), line: line) { error in
            let text = "\(error)"
            XCTAssert(error is AmusedError && text.contains(part) && !text.contains("\n"), text, line: line)
        }
    }

    func testPastingKeepsWhatIsNotMarked() {
        let before = RGBImage(width: 8, height: 8, pixels: (0..<192).map { UInt8($0) })
        let drawn = RGBImage(width: 8, height: 8, pixels: before.pixels.map { $0 &+ 10 })
        let area = (0..<64).map { $0 % 8 >= 4 }
        let after = before.pasting(drawn, area: area, feather: 2)
        for at in 0..<64 where !area[at] { XCTAssertEqual(after.pixels[3 * at], before.pixels[3 * at]) }
        // The tokenizer's own change of 10 is taken off at the border, and stays further in.
        XCTAssertEqual(after.pixels[3 * 4], before.pixels[3 * 4], accuracy: 2)
        XCTAssertEqual(after.pixels[3 * 7], drawn.pixels[3 * 7])
        XCTAssertEqual(Selection.cells(area, side: 8, grid: 2), [false, true, false, true])
    }
}
