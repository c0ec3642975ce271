import AmusedLiteCore
import SwiftUI

/// One picture of the gallery: share it, vary it, or paint with the finger what shall be drawn anew.
struct DetailView: View {
    let studio: Studio
    let item: Studio.Item
    @State private var marked: Set<Int> = []
    @State private var strength = 0.5
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        VStack(spacing: 16) {
            AsyncImage(url: item.file) { $0.resizable() } placeholder: { Color.gray }
                .aspectRatio(1, contentMode: .fit)
                .overlay { if let grid = studio.grid { MaskView(grid: grid, marked: $marked) } }
            ShareLink(item: item.file)
            LabeledContent("How much is drawn anew") { Slider(value: $strength, in: 0.1...1) }
            HStack {
                Button("Vary") {
                    studio.vary(item, strength: strength)
                    dismiss()
                }
                Button("Draw the marked part") {
                    guard let grid = studio.grid else { return }
                    studio.inpaint(item, cells: (0..<grid * grid).map(marked.contains))
                    dismiss()
                }
                .disabled(marked.isEmpty)
                Button("Delete", role: .destructive) {
                    studio.delete(item)
                    dismiss()
                }
            }
        }
        .padding()
    }
}

/// Cells of the model's grid, marked by dragging.
struct MaskView: View {
    let grid: Int
    @Binding var marked: Set<Int>

    var body: some View {
        GeometryReader { space in
            let cell = space.size.width / CGFloat(grid)
            Canvas { context, _ in
                for index in marked {
                    let corner = CGPoint(x: CGFloat(index % grid) * cell, y: CGFloat(index / grid) * cell)
                    let square = CGRect(origin: corner, size: CGSize(width: cell, height: cell))
                    context.fill(Path(square), with: .color(.white.opacity(0.6)))
                }
            }
            .contentShape(Rectangle())
            .gesture(DragGesture(minimumDistance: 0).onChanged { drag in
                let (x, y) = (Int(drag.location.x / cell), Int(drag.location.y / cell))
                for row in y - 1...y + 1 where (0..<grid).contains(row) {
                    for column in x - 1...x + 1 where (0..<grid).contains(column) { marked.insert(row * grid + column) }
                }
            })
        }
    }
}
