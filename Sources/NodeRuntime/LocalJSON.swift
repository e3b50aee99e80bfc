// JSON as the local sockets speak it: sorted keys, dates in ISO 8601 with milliseconds, infinities as words.

package import Foundation

package enum LocalJSON {
    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
        }
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return encoder
    }

    private static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom { decoder in
            let container = try decoder.singleValueContainer()
            let text = try container.decode(String.self)
            // With and without fractions.
            for style in [Date.ISO8601FormatStyle(includingFractionalSeconds: true), .iso8601] {
                if let date = try? style.parse(text) { return date }
            }
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text.prefix(40))' is no date")
        }
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return decoder
    }

    package static func encode(_ value: some Encodable) throws -> Data { try encoder.encode(value) }

    package static func decode<T: Decodable>(_ type: T.Type, from data: Data, route: String) throws(NodeRuntimeError) -> T {
        do {
            return try decoder.decode(T.self, from: data)
        } catch {
            throw .badMessage(route: route, reason: describe(error))
        }
    }

    private static func describe(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        func at(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
            let path = (context.codingPath + (key.map { [$0] } ?? [])).map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? "the message" : "'\(path)'"
        }
        return switch error {
        case .keyNotFound(let key, let context): "\(at(context, key)) is missing"
        case .typeMismatch(let type, let context): "\(at(context)) is no \(type)"
        case .valueNotFound(let type, let context): "\(at(context)) is null where \(type) is needed"
        case .dataCorrupted(let context): "\(at(context)) is not valid: \(context.debugDescription)"
        @unknown default: "it cannot be read"
        }
    }
}
