#if canImport(CoreGraphics)
import CoreGraphics
import Foundation

extension RGBImage {
    /// For views.
    public var cgImage: CGImage? {
        CGDataProvider(data: Data(pixels) as CFData).flatMap {
            CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                provider: $0, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
        }
    }

    /// The middle square of a picture at a model's size, for `Pipeline.encode`.
    public init?(middleOf picture: CGImage, side: Int) {
        let short = min(picture.width, picture.height)
        let square = CGRect(x: (picture.width - short) / 2, y: (picture.height - short) / 2, width: short, height: short)
        var bytes = [UInt8](repeating: 255, count: 4 * side * side)
        let drawn = bytes.withUnsafeMutableBytes { data in
            guard let middle = picture.cropping(to: square), let context = CGContext(
                data: data.baseAddress, width: side, height: side, bitsPerComponent: 8, bytesPerRow: 4 * side,
                space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.interpolationQuality = .high
            context.draw(middle, in: CGRect(x: 0, y: 0, width: side, height: side))
            return true
        }
        guard drawn else { return nil }
        self.init(width: side, height: side, pixels: bytes.indices.filter { $0 % 4 != 3 }.map { bytes[$0] })
    }
}
#endif
