import Foundation

/// What went wrong, in one line: what was got, what was expected, what to do.
public struct AmusedError: LocalizedError, CustomStringConvertible, Equatable {
    public let description: String
    public var errorDescription: String? { description }

    public init(_ description: String) { self.description = description }
}
