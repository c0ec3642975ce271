import Foundation
import XCTest

@testable import AmusedLiteCore

/// What amused_lite itself computes, written by vectors.py; AMUSED_VECTORS names the folder.
struct Vectors: Decodable {
    struct NoiseVector: Decodable {
        let key, words: [String]
        let gumbel: [Float]
    }
    struct ScheduleVector: Decodable {
        let name: String
        let masked, steps, first: Int
        let counts: [Int]
    }
    struct PictureVector: Decodable {
        let recipe, parameters: String
    }

    let bundle: String
    let prompts: [String]
    let ids: [[Int32]]
    let noise: [NoiseVector]
    let schedules: [ScheduleVector]
    let halton: [Float]
    let maskTemperatures: [[Float]]
    let pictures: [PictureVector]
    let refused: [String: String]  // what a recipe asks for, and the recipe
    let encoded: [Int32]  // the first picture's pixels, read again

    static let all: Result<Vectors, any Error> = Result {
        guard let folder = ProcessInfo.processInfo.environment["AMUSED_VECTORS"] else {
            throw XCTSkip("AMUSED_VECTORS is not set; run make test-swift")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let file = URL(fileURLWithPath: folder).appendingPathComponent("vectors.json")
        return try decoder.decode(Vectors.self, from: Data(contentsOf: file))
    }

    var folder: URL { URL(fileURLWithPath: bundle) }
}
