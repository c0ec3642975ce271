import Foundation

/// A picture: rows of RGB bytes.
public struct RGBImage: Sendable, Equatable {
    public let width, height: Int
    public let pixels: [UInt8]

    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(pixels.count == 3 * width * height)
        (self.width, self.height, self.pixels) = (width, height, pixels)
    }

    /// From three planes of numbers in 0...1.
    init(planes: [Float], width: Int, height: Int) {
        let count = width * height
        self.init(width: width, height: height, pixels: [UInt8](unsafeUninitializedCapacity: 3 * count) { bytes, filled in
            for at in 0..<count {
                for colour in 0..<3 {
                    let value = min(max(planes[colour * count + at], 0), 1) * 255
                    bytes[3 * at + colour] = UInt8(value.isNaN ? 0 : value.rounded(.toNearestOrEven))
                }
            }
            filled = 3 * count
        })
    }

    var planes: [Float] {
        var planes: [Float] = []
        for colour in 0..<3 {
            for at in stride(from: colour, to: pixels.count, by: 3) { planes.append(Float(pixels[at]) / 255) }
        }
        return planes
    }

    /// This picture with `drawn` where `area` (one for each pixel) is true; every other pixel stays, bit for bit.
    ///
    /// A tokenizer gives colours back a little changed. What it changed beside the area is taken off inside it as well,
    /// at the border fully and `feather` pixels further in no more, so that no edge is seen.
    public func pasting(_ drawn: RGBImage, area: [Bool], feather: Int) -> RGBImage {
        precondition(drawn.width == width && drawn.height == height && area.count == width * height)
        let near = blurred(area.map { $0 ? 0 : 1 }, reach: feather)
        var result = pixels
        for colour in 0..<3 {
            var change = [Float](repeating: 0, count: area.count)
            for at in area.indices where !area[at] {
                change[at] = Float(pixels[3 * at + colour]) - Float(drawn.pixels[3 * at + colour])
            }
            let shift = blurred(change, reach: feather)
            for at in area.indices where area[at] {
                let weight: Float = min(2 * near[at], 1) / max(near[at], 1e-3)
                let moved: Float = Float(drawn.pixels[3 * at + colour]) + shift[at] * weight
                result[3 * at + colour] = UInt8(min(max(moved, 0), 255).rounded(.toNearestOrEven))
            }
        }
        return RGBImage(width: width, height: height, pixels: result)
    }

    /// Means over squares of 2 * reach + 1 pixels, edges repeated.
    private func blurred(_ values: [Float], reach: Int) -> [Float] {
        var values = values
        for (lines, length, next, step) in [(width, height, 1, width), (height, width, width, 1)] {
            var result = values
            var sums = [Double](repeating: 0, count: length + 2 * reach + 2)
            for line in 0..<lines {
                for at in 1..<sums.count {
                    let place = min(max(at - 1 - reach, 0), length - 1)
                    sums[at] = sums[at - 1] + Double(values[line * next + place * step])
                }
                for at in 0..<length {
                    result[line * next + at * step] = Float((sums[at + 2 * reach + 1] - sums[at]) / Double(2 * reach + 1))
                }
            }
            values = result
        }
        return values
    }
}

/// Pixels that someone marked.
public enum Selection {
    /// The cells of a model's grid that touch the area anywhere: (side, side) to (grid, grid).
    public static func cells(_ area: [Bool], side: Int, grid: Int) -> [Bool] {
        precondition(area.count == side * side && side % grid == 0)
        var cells = [Bool](repeating: false, count: grid * grid)
        let cell = side / grid
        for at in area.indices where area[at] {
            let (row, column) = (at / side / cell, at % side / cell)
            cells[row * grid + column] = true
        }
        return cells
    }
}
