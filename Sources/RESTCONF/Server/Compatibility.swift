// For clients that do not quite speak RFC 8040, as one public controller's driver for QKD nodes does not. Off unless asked for.
//
// What is bent, and only then:
// - a path may end in a slash, and its first name may be unqualified;
// - who accepts anything (`*/*`) gets JSON with the members' names unqualified;
// - `application/json` and `application/xml` are taken and sent, and a body without a Content-Type is looked at;
// - names in a JSON body may be unqualified, and a POST may wrap what it creates in the container that it is sent to.

package import Foundation

package enum Compatibility {
    static func path(_ path: String) -> String {
        var path = path[...]
        while path.count > 1, path.last == "/" { path = path.dropLast() }
        return String(path)
    }

    /// JSON without `module:` in front of members' names. Values, also those of identities, stay as they are.
    package static func unqualified(_ json: Data) -> Data {
        var out = Data(capacity: json.count)
        var rest = json[...]
        while let quote = rest.firstIndex(of: UInt8(ascii: "\"")) {
            out += rest[..<quote]
            let end = stringEnd(rest, from: quote + 1)
            let text = rest[quote..<end]
            let next = rest[end...].first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
            if next == UInt8(ascii: ":"), let colon = text.firstIndex(of: UInt8(ascii: ":")), text[text.startIndex + 1] != UInt8(ascii: "@")
            {
                out.append(UInt8(ascii: "\""))
                out += text[(colon + 1)...]
            } else {
                out += text
            }
            rest = rest[end...]
        }
        return out + rest
    }

    /// The index behind the closing quote.
    private static func stringEnd(_ text: Data.SubSequence, from start: Data.Index) -> Data.Index {
        var index = start
        while index < text.endIndex {
            switch text[index] {
            case UInt8(ascii: "\\"): index += 2
            case UInt8(ascii: "\""): return index + 1
            default: index += 1
            }
        }
        return text.endIndex
    }

    /// A JSON body with its outermost names qualified by the module of the resource that it is sent to.
    /// - Parameters:
    ///   - target: the last step of the request's path; nil for the datastore, where only qualified names will do.
    static func qualified(_ body: Data, for kind: EditKind, target: ResourcePath.Step?) -> Data {
        guard let target, var object = (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] else { return body }
        if kind == .create, object.count == 1, let (name, inner) = object.first, localName(name) == target.name,
            let inner = inner as? [String: Any]
        {
            object = inner
        }
        let named = object.map { ($0.key.contains(":") ? $0.key : "\(target.module):\($0.key)", $0.value) }
        return (try? JSONSerialization.data(withJSONObject: Dictionary(named) { first, _ in first })) ?? body
    }

    private static func localName(_ name: String) -> String { name.split(separator: ":").last.map(String.init) ?? name }
}
