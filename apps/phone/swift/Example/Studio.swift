import AmusedLiteCore
import Foundation
import Observation

/// What the screens show: the prompt, the picture under way, and those that were drawn. Knows no views.
@MainActor @Observable
final class Studio {
    /// A picture in the gallery: a PNG file with its recipe.
    struct Item: Identifiable, Hashable {
        let file: URL
        var id: URL { file }
    }

    enum Phase: Equatable {
        case preparing(String), ready, drawing(step: Int, of: Int), failed(String)
    }

    var prompt = ""
    var negativePrompt = ""
    var steps = 12
    var seed: UInt64?  // nil: another one each time
    /// A style is a bundle of its own, exported with its adapter merged in.
    var style: URL { didSet { if style != oldValue { open() } } }

    private(set) var styles: [URL]
    private(set) var phase = Phase.preparing("Checking the model")
    private(set) var preview: RGBImage?
    private(set) var gallery: [Item] = []

    private let makeEngine: @Sendable (ModelBundle) throws -> any Engine
    private let folder: URL
    private var pipeline: Pipeline?
    private var work: Task<Void, Never>?

    /// - Parameters:
    ///   - styles: bundle folders, the first is chosen.
    ///   - folder: where pictures are kept.
    init(styles: [URL], folder: URL, makeEngine: @escaping @Sendable (ModelBundle) throws -> any Engine) {
        precondition(!styles.isEmpty)
        (self.styles, self.folder, self.makeEngine, style) = (styles, folder, makeEngine, styles[0])
        let files = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        gallery = files.filter { $0.pathExtension == "png" }.map(Item.init).sorted { $0.file.path > $1.file.path }
    }

    /// Checks the chosen bundle and loads its first module, while the user still writes.
    func open() {
        work?.cancel()
        phase = .preparing("Checking the model")
        let (style, makeEngine) = (style, makeEngine)
        work = Task {
            do {
                let pipeline = try await Task.detached {
                    let bundle = try ModelBundle(folder: style)
                    return try Pipeline(bundle: bundle, engine: makeEngine(bundle))
                }.value
                phase = .preparing("Loading the model; the first time takes minutes")
                try await pipeline.prewarm(.encodePrompt)
                self.pipeline = pipeline
                phase = .ready
            } catch { fail(error) }
        }
    }

    func draw(edit: Edit? = nil) {
        var settings = GenerateOptions(steps: steps, seed: seed ?? .random(in: 0...UInt64(UInt32.max)))
        if case .inpaint = edit?.operation { settings.maskSchedule = .linear }
        start(Pipeline.Request(prompt, negativePrompt: negativePrompt, settings: settings, edit: edit))
    }

    /// Draws a part of an earlier picture of this model anew; `strength` is how much.
    func vary(_ item: Item, strength: Double) {
        do { draw(edit: Edit(.vary(strength: strength), tokens: try source(item).tokens)) } catch { fail(error) }
    }

    /// Draws a photograph anew in part: a square of the model's size.
    func vary(_ photograph: RGBImage, strength: Double) {
        guard let pipeline else { return }
        phase = .preparing("Reading the photograph")
        work?.cancel()
        work = Task {
            do {
                let tokens = try await pipeline.encode(photograph)
                try Task.checkCancellation()
                draw(edit: Edit(.vary(strength: strength), tokens: tokens))
            } catch { fail(error) }
        }
    }

    /// Draws the marked cells of an earlier picture anew: (grid, grid), row by row.
    func inpaint(_ item: Item, cells: [Bool]) {
        guard let pipeline else { return }
        do {
            let tokens = try source(item).tokens
            let feather = pipeline.bundle.manifest.imageSize / pipeline.bundle.config.uvit.grid
            draw(edit: Edit(.inpaint(cells: cells, paste: false, feather: feather), tokens: tokens))
        } catch { fail(error) }
    }

    var grid: Int? { pipeline?.bundle.config.uvit.grid }
    var side: Int? { pipeline?.bundle.manifest.imageSize }

    func stop() { work?.cancel() }

    func delete(_ item: Item) {
        try? FileManager.default.removeItem(at: item.file)
        gallery.removeAll { $0 == item }
    }

    private func start(_ request: Pipeline.Request) {
        guard let pipeline else { return }
        work?.cancel()
        work = Task {
            do {
                var tokens: [Int32] = []
                for try await step in pipeline.steps(request) {
                    tokens = step.tokens
                    preview = pipeline.preview(step.sampledTokens)
                    phase = .drawing(step: step.index + 1, of: step.steps)
                }
                try Task.checkCancellation()
                let picture = try await pipeline.finish(tokens, request)
                try keep(picture)
                (preview, phase) = (picture.image, .ready)
            } catch is CancellationError { phase = .ready } catch { fail(error) }
        }
    }

    private func source(_ item: Item) throws -> Recipe.Source {
        let source = try Recipe.read(item.file)
        guard source.modelHash == pipeline?.bundle.manifest.modelHash else {
            throw AmusedError("That picture was drawn in another style; choose that style first")
        }
        return source
    }

    private func keep(_ picture: Picture) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let stamp = Int(Date().timeIntervalSince1970 * 1000)
        let file = folder.appendingPathComponent("\(stamp).png")
        try picture.png().write(to: file, options: .atomic)
        gallery.insert(Item(file: file), at: 0)
    }

    private func fail(_ error: any Error) { phase = error is CancellationError ? .ready : .failed("\(error)") }
}
