#if os(Linux)
import AmusedLiteONNX
import Foundation
import XCTest

@testable import AmusedLiteCore

final class DrawingTests: XCTestCase {
    private func pipeline() throws -> (Vectors, Pipeline) {
        let vectors = try Vectors.all.get()
        let bundle = try ModelBundle(folder: vectors.folder)
        return (vectors, try Pipeline(bundle: bundle, engine: OnnxEngine(bundle: bundle), keepLoaded: true))
    }

    func testPicturesAndEditsHaveTheTokensAndTheRecipesOfPython() async throws {
        let (vectors, pipeline) = try pipeline()
        for vector in vectors.pictures {
            let source = try Recipe.Source(text: vector.recipe)
            let request = try source.request(pipeline.bundle.manifest)
            let (picture, expected) = (try await pipeline.picture(request), source.tokens)
            let differing = zip(picture.recipe.tokens, expected).filter { $0 != $1 }.count
            print("\(differing) of \(expected.count) tokens differ: \(source.prompt)\(source.isEdited ? ", edited" : "")")
            XCTAssertEqual(differing, 0)
            XCTAssertEqual(picture.recipe.json, vector.recipe)
            XCTAssertEqual(picture.recipe.parameters, vector.parameters)
            let texts = try PNG.texts(picture.png())
            XCTAssertEqual(texts[Recipe.key], vector.recipe)
        }
    }

    func testWhatARecipeAsksForInVainIsNamed() throws {
        let (vectors, pipeline) = try pipeline()
        XCTAssertFalse(vectors.refused.isEmpty)
        for (name, recipe) in vectors.refused {
            XCTAssertThrowsError(try Recipe.Source(text: recipe).request(pipeline.bundle.manifest), name) { error in
                XCTAssert("\(error)".contains(name), "\(name): \(error)")
            }
        }
    }

    func testPixelsAreReadAsTheTokensOfPython() async throws {
        let (vectors, pipeline) = try pipeline()
        let image = try await pipeline.decode(Recipe.Source(text: vectors.pictures[0].recipe).tokens)
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
        var settings = GenerateOptions()
        settings.topP = 0
        requests.append(.init("a", settings: settings))
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
