import AmusedLiteCore
import ImageIO
import PhotosUI
import SwiftUI

/// One screen: the picture under way, the prompt, and the gallery below.
struct StudioView: View {
    @Bindable var studio: Studio
    @State private var photograph: PhotosPickerItem?

    var body: some View {
        NavigationStack {
            ScrollView {
                VStack(spacing: 16) {
                    PictureView(image: studio.preview)
                    StatusView(studio: studio)
                    TextField("A red balloon above a blue house", text: $studio.prompt, axis: .vertical)
                        .textFieldStyle(.roundedBorder)
                        .onSubmit { studio.draw() }
                    Picker("Style", selection: $studio.style) {
                        ForEach(studio.styles, id: \.self) { Text($0.lastPathComponent).tag($0) }
                    }
                    Stepper("\(studio.steps) steps", value: $studio.steps, in: 1...48)
                    PhotosPicker("Start from a photograph", selection: $photograph, matching: .images)
                        .onChange(of: photograph) { _, chosen in Task { await vary(chosen) } }
                    GalleryView(studio: studio)
                }
                .padding()
            }
            .navigationTitle("amused-lite")
        }
    }

    private func vary(_ chosen: PhotosPickerItem?) async {
        guard let data = try? await chosen?.loadTransferable(type: Data.self), let side = studio.side,
            let source = CGImageSourceCreateWithData(data as CFData, nil),
            let picture = CGImageSourceCreateImageAtIndex(source, 0, nil),
            let square = RGBImage(middleOf: picture, side: side)
        else { return }
        studio.vary(square, strength: 0.7)
    }
}

struct StatusView: View {
    let studio: Studio

    var body: some View {
        switch studio.phase {
        case .preparing(let what):
            ProgressView(what)
        case .ready:
            Button("Draw") { studio.draw() }
                .buttonStyle(.borderedProminent)
                .disabled(studio.prompt.allSatisfy(\.isWhitespace))
        case .drawing(let step, let of):
            HStack {
                ProgressView(value: Double(step), total: Double(of))
                Button("Stop") { studio.stop() }
            }
        case .failed(let reason):
            VStack {
                Text(reason).foregroundStyle(.red)
                Button("Try again") { studio.open() }
            }
        }
    }
}

struct PictureView: View {
    let image: RGBImage?

    var body: some View {
        if let shown = image?.cgImage {
            SwiftUI.Image(decorative: shown, scale: 1)
                .resizable()
                .interpolation(.none)  // a preview has one pixel for each token
                .aspectRatio(1, contentMode: .fit)
                .clipShape(RoundedRectangle(cornerRadius: 12))
        }
    }
}

struct GalleryView: View {
    let studio: Studio
    private let columns = [GridItem(.adaptive(minimum: 96))]

    var body: some View {
        LazyVGrid(columns: columns) {
            ForEach(studio.gallery) { item in
                NavigationLink {
                    DetailView(studio: studio, item: item)
                } label: {
                    AsyncImage(url: item.file) { $0.resizable().aspectRatio(1, contentMode: .fit) } placeholder: { Color.gray }
                }
            }
        }
    }
}
