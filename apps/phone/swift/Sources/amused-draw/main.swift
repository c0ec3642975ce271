import AmusedLiteCore
import Foundation
#if os(Linux)
import AmusedLiteONNX
#else
import AmusedLiteCoreML
#endif

func say(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

func draw(_ arguments: Arguments) async throws -> URL {
    let from = try arguments.values["--from"].map { try Recipe.read(URL(fileURLWithPath: $0)) }
    guard let prompt = try arguments.prompt ?? source(arguments)?.prompt ?? from?.prompt else {
        throw AmusedError("say what to draw; see --help")
    }
    guard let folder = arguments.values["--model"] else { throw AmusedError("name a bundle with -m FOLDER; see --help") }
    let output = arguments.values["--output"] ?? name(prompt)
    guard output.lowercased().hasSuffix(".png") else { throw AmusedError("-o must end in .png, got \(output)") }
    let bundle = try ModelBundle(folder: URL(fileURLWithPath: folder))
    #if os(Linux)
    let engine = try OnnxEngine(bundle: bundle)
    #else
    let engine = try CoreMLEngine(bundle: bundle)
    #endif
    let pipeline = try Pipeline(bundle: bundle, engine: engine)
    var request = try from?.request(bundle.manifest) ?? Pipeline.Request(prompt)
    request.prompt = prompt
    request.settings = try arguments.settings(request.settings)
    request.negativePrompt = arguments.values["--negative-prompt"] ?? request.negativePrompt
    request.picture = Int(try arguments.number("--picture", UInt32.self) ?? UInt32(request.picture))
    let canvas = try Canvas(arguments, bundle)
    request.edit = canvas?.edit
    if from?.isEdited == true, canvas == nil { say("what was edited is not repeated; see --vary and --inpaint\n") }
    if pipeline.tokenizer.count(prompt) > pipeline.tokenizer.contextLength - 2 {
        say("the prompt is longer than the model reads; its end is cut off\n")
    }
    var tokens: [Int32] = []
    for try await step in pipeline.steps(request) {
        tokens = step.tokens
        if !arguments.quiet { say("\rstep \(step.index + 1) of \(step.steps)") }
    }
    if !arguments.quiet { say("\n") }
    try Task.checkCancellation()
    var picture = try await pipeline.finish(tokens, request)
    if let canvas, let area = canvas.area {
        let before = try await pipeline.decode(canvas.edit.tokens)
        picture = Picture(
            image: before.pasting(picture.image, area: area, feather: canvas.feather), recipe: picture.recipe)
    }
    return try write(picture.png(), to: output)
}

func source(_ arguments: Arguments) throws -> Recipe.Source? {
    guard let file = arguments.values["--vary"] ?? arguments.values["--inpaint"] else { return nil }
    return try Recipe.read(URL(fileURLWithPath: file))
}

/// The picture that is edited.
struct Canvas {
    let edit: Edit
    let feather: Int
    var area: [Bool]?

    init?(_ arguments: Arguments, _ bundle: ModelBundle) throws {
        guard let earlier = try source(arguments) else { return nil }
        guard earlier.modelHash == bundle.manifest.modelHash, earlier.tokens.count == bundle.config.uvit.tokens else {
            throw AmusedError("that picture was drawn by another model; give one that this bundle drew")
        }
        let (side, grid) = (bundle.manifest.imageSize, bundle.config.uvit.grid)
        feather = side / grid
        if arguments.values["--inpaint"] == nil {
            let strength = try arguments.number("--strength", Double.self) ?? 0.5
            edit = Edit(.vary(strength: strength), tokens: earlier.tokens)
        } else {
            let (left, top, width, height) = try arguments.box(side: side)
            let area = (0..<side * side).map {
                (left..<left + width).contains($0 % side) && (top..<top + height).contains($0 / side)
            }
            self.area = area
            let cells = Selection.cells(area, side: side, grid: grid)
            edit = Edit(.inpaint(cells: cells, paste: true, feather: feather), tokens: earlier.tokens)
        }
    }
}

func name(_ prompt: String) -> String {
    let words = prompt.lowercased().split { !$0.isLetter && !$0.isNumber }.joined(separator: "-")
    return "\(words.isEmpty ? "picture" : words.prefix(60)).png"
}

/// Complete or not at all, and never over another file.
func write(_ data: Data, to path: String) throws -> URL {
    let wanted = URL(fileURLWithPath: path)
    let folder = wanted.deletingLastPathComponent()
    let partial = folder.appendingPathComponent(".\(ProcessInfo.processInfo.globallyUniqueString).part")
    defer { try? FileManager.default.removeItem(at: partial) }
    do {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try data.write(to: partial)
    } catch { throw AmusedError("\(path) cannot be written (\(error.localizedDescription)); name another folder with -o") }
    for number in 1... {
        let stem = wanted.deletingPathExtension().lastPathComponent
        let file = number == 1 ? wanted : folder.appendingPathComponent("\(stem)-\(number).png")
        // A hard link makes the test and the naming one act.
        if link(partial.path, file.path) == 0 { return file }
        guard errno == EEXIST else { throw AmusedError("\(file.path) cannot be written (\(String(cString: strerror(errno))))") }
    }
    fatalError("unreachable")
}

do {
    let arguments = try Arguments(Array(CommandLine.arguments.dropFirst()))
    if arguments.wantsHelp || CommandLine.arguments.count == 1 {
        print(Arguments.help, terminator: "")
        exit(arguments.wantsHelp ? 0 : 2)
    }
    let work = Task { try await draw(arguments) }
    signal(SIGINT, SIG_IGN)
    let interrupted = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
    interrupted.setEventHandler { work.cancel() }
    interrupted.resume()
    print(try await work.value.path)
} catch is CancellationError {
    say("\nstopped; nothing was written\n")
    exit(130)
} catch {
    say("error: \(error)\n")
    exit(error is AmusedError ? 2 : 1)
}
