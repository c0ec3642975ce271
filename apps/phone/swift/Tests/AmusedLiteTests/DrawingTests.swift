#if os(Linux)
import AmusedLiteONNX
import Foundation
import XCTest

@testable import AmusedLiteCore

final class DrawingTests: XCTestCase {
    /// The fields of a recipe that say what to draw.
    private struct Order: Decodable {
        struct AnyEdit: Decodable {
            struct Settings: Decodable {
                let strength: Double?
                let cells: String?
                let feather: Int?
            }
            let operation, tokens: String
            let settings: Settings
        }
        let prompt, negativePrompt, maskSchedule, order, tokens: String
        let picture, steps, codebookSize: Int
        let seed: UInt64
        let guidanceScale, tokenTemperature: Double
        let guidanceInterval: [Double]
        let edit: AnyEdit?

        func request(grid: Int) throws -> Pipeline.Request {
            var settings = GenerateOptions(steps: steps, seed: seed)
            (settings.guidanceScale, settings.tokenTemperature) = (guidanceScale, tokenTemperature)
            settings.guidanceInterval = (guidanceInterval[0], guidanceInterval[1])
            settings.maskSchedule = MaskSchedule(rawValue: maskSchedule)!
            settings.order = GenerateOptions.Order(rawValue: order)!
            var request = Pipeline.Request(prompt, negativePrompt: negativePrompt, settings: settings)
            request.picture = picture
            if let edit {
                let tokens = try unpackTokens(edit.tokens, codebookSize: codebookSize)
                if let cells = edit.settings.cells {
                    let bytes = [UInt8](Data(base64Encoded: cells)!)
                    let marked = (0..<grid * grid).map { bytes[$0 / 8] >> UInt8(7 - $0 % 8) & 1 == 1 }
                    request.edit = Edit(.inpaint(cells: marked, paste: true, feather: edit.settings.feather!), tokens: tokens)
                } else {
                    request.edit = Edit(.vary(strength: edit.settings.strength!), tokens: tokens)
                }
            }
            return request
        }
    }

    private func pipeline() throws -> (Vectors, Pipeline) {
        let vectors = try Vectors.all.get()
        let bundle = try ModelBundle(folder: vectors.folder)
        return (vectors, try Pipeline(bundle: bundle, engine: OnnxEngine(bundle: bundle), keepLoaded: true))
    }

    func testPicturesAndEditsHaveTheTokensAndTheRecipesOfPython() async throws {
        let (vectors, pipeline) = try pipeline()
        let grid = pipeline.bundle.config.uvit.grid
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        for vector in vectors.pictures {
            let order = try decoder.decode(Order.self, from: Data(vector.recipe.utf8))
            let request = try order.request(grid: grid)
            let picture = try await pipeline.picture(request)
            let expected = try unpackTokens(order.tokens, codebookSize: order.codebookSize)
            let differing = zip(picture.recipe.tokens, expected).filter { $0 != $1 }.count
            print("\(differing) of \(expected.count) tokens differ: \(order.prompt) \(order.edit?.operation ?? "")")
            XCTAssertEqual(differing, 0)
            XCTAssertEqual(picture.recipe.json, vector.recipe)
            XCTAssertEqual(picture.recipe.parameters, vector.parameters)
            let texts = try PNG.texts(picture.png())
            XCTAssertEqual(texts[Recipe.key], vector.recipe)
        }
    }

    func testPixelsAreReadAsTheTokensOfPython() async throws {
        let (vectors, pipeline) = try pipeline()
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let order = try decoder.decode(Order.self, from: Data(vectors.pictures[0].recipe.utf8))
        let image = try await pipeline.decode(unpackTokens(order.tokens, codebookSize: order.codebookSize))
        let tokens = try await pipeline.encode(image)
        XCTAssertEqual(tokens, vectors.encoded)
    }

    func testCancellingStopsTheSteps() async throws {
        let (_, pipeline) = try pipeline()
        var seen = 0
        for try await step in pipeline.steps(.init("a red star", settings: GenerateOptions(steps: 20))) {
            seen = step.index + 1
            if seen == 2 { break }
        }
        XCTAssertEqual(seen, 2)
        let work = Task { try await pipeline.picture(.init("a red star", settings: GenerateOptions(steps: 20))) }
        work.cancel()
        do {
            _ = try await work.value
            XCTFail("a cancelled picture was drawn")
        } catch { XCTAssert(error is CancellationError, "\(error)") }
    }

    func testPreviewsAreOnePixelForEachToken() throws {
        let (_, pipeline) = try pipeline()
        let uvit = pipeline.bundle.config.uvit
        let image = pipeline.preview([Int32](repeating: 1, count: uvit.tokens))
        XCTAssertEqual([image.width, image.height], [uvit.grid, uvit.grid])
        XCTAssertEqual(Array(image.pixels.suffix(3)), Array(try pipeline.bundle.colours()[3..<6]))
    }

    func testWhatCannotBeDrawnIsSaidInOneLine() async throws {
        let (_, pipeline) = try pipeline()
        var requests = [Pipeline.Request("  "), .init("a", edit: Edit(.vary(strength: 0), tokens: [1]))]
        requests.append(.init("a", settings: GenerateOptions(steps: 0)))
        requests.append(.init(String(repeating: "a", count: 5001)))
        for request in requests {
            do {
                _ = try await pipeline.picture(request)
                XCTFail("\(request) was drawn")
            } catch { XCTAssert(error is AmusedError, "\(error)") }
        }
    }
}
#endif
