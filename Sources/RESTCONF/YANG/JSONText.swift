// Whether a text is a JSON object (RFC 8259), said before libyang's parser sees it: version 2.1.30 leaks where an operation goes on
// behind its end, and crashes over some malformed metadata. What passes here is well-formed, so that none of that is reached.
//
// It is I-JSON too (RFC 7951, section 1; RFC 7493, section 2.3): no member comes twice, of which parsers would take one or the other.

package import Foundation

/// The names of one object's members.
private struct MemberNames {
    private var few: [UnsafeRawBufferPointer] = []
    private var many = Set<[UInt8]>()

    /// Whether the name is new. Objects have few members nearly always, and then nothing is copied.
    /// - Parameter name: as it is written, without its quotes.
    mutating func insert(_ name: UnsafeRawBufferPointer) -> Bool {
        let isEscaped = name.contains(UInt8(ascii: "\\"))
        if isEscaped || few.count > 32 {
            for name in few { many.insert([UInt8](name)) }
            few = []
        }
        if isEscaped || !many.isEmpty { return many.insert(isEscaped ? Self.plain(name) : [UInt8](name)).inserted }
        if few.contains(where: { $0.elementsEqual(name) }) { return false }
        few.append(name)
        return true
    }

    /// Without escapes: two spellings are one name.
    private static func plain(_ name: UnsafeRawBufferPointer) -> [UInt8] {
        let quoted = Data("[\"".utf8) + Data(name) + Data("\"]".utf8)
        return (try? JSONDecoder().decode([String].self, from: quoted).first).map { [UInt8]($0.utf8) } ?? [UInt8](name)
    }
}

package struct JSONText {
    private let bytes: UnsafeRawBufferPointer
    private let depth: Int
    private var index = 0

    /// - Parameter depth: objects and arrays inside each other, at most.
    /// - Returns: how many members the object has.
    /// - Throws: 400 `malformed-message` for what is no JSON object or is too deep; 400 `unknown-attribute` for metadata.
    package static func members(of text: Data, depth: Int) throws(RESTCONFError) -> Int {
        let result = text.withUnsafeBytes { bytes -> Result<Int, RESTCONFError> in
            var scan = JSONText(bytes: bytes, depth: depth)
            do throws(RESTCONFError) { return .success(try scan.whole()) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private init(bytes: UnsafeRawBufferPointer, depth: Int) {
        self.bytes = bytes
        self.depth = depth
    }

    private mutating func whole() throws(RESTCONFError) -> Int {
        guard skip() == UInt8(ascii: "{") else { throw bad("an object should begin here") }
        let members = try object(1)
        guard skip() == nil else { throw bad("the text goes on behind its end") }
        return members
    }

    // MARK: Grammar

    private mutating func value(_ level: Int) throws(RESTCONFError) {
        switch skip() {
        case UInt8(ascii: "{"): _ = try object(level)
        case UInt8(ascii: "["): try array(level)
        case UInt8(ascii: "\""): try string()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default: try number()
        }
    }

    private mutating func object(_ level: Int) throws(RESTCONFError) -> Int {
        try enter(level)
        if skip() == UInt8(ascii: "}") {
            index += 1
            return 0
        }
        var members = 0
        var names = MemberNames()
        repeat {
            guard skip() == UInt8(ascii: "\"") else { throw bad("a member's name should begin here") }
            let start = index
            guard names.insert(try name()) else { throw bad("a member comes twice in one object", at: start) }
            guard skip() == UInt8(ascii: ":") else { throw bad("a colon is missing") }
            index += 1
            try value(level + 1)
            members += 1
        } while try goesOn(UInt8(ascii: "}"))
        return members
    }

    private mutating func array(_ level: Int) throws(RESTCONFError) {
        try enter(level)
        if skip() == UInt8(ascii: "]") {
            index += 1
            return
        }
        repeat { try value(level + 1) } while try goesOn(UInt8(ascii: "]"))
    }

    private mutating func enter(_ level: Int) throws(RESTCONFError) {
        guard level <= depth else { throw RESTCONFError(.protocol, .malformedMessage, "the text nests deeper than \(depth) levels") }
        index += 1
    }

    /// Whether a comma follows rather than `end`.
    private mutating func goesOn(_ end: UInt8) throws(RESTCONFError) -> Bool {
        let next = skip()
        guard next == UInt8(ascii: ",") || next == end else { throw bad("a comma or the end of the object or array is missing") }
        index += 1
        return next == UInt8(ascii: ",")
    }

    /// No name of YANG begins with `@` (RFC 7952, section 5.2, is what does) or with an escape, which could hide one.
    /// - Returns: what stands between the quotes.
    private mutating func name() throws(RESTCONFError) -> UnsafeRawBufferPointer {
        let start = index + 1
        let first = index + 1 < bytes.count ? bytes[index + 1] : 0
        if first == UInt8(ascii: "@") || first == UInt8(ascii: "\\") {
            throw RESTCONFError(.protocol, .unknownAttribute, "metadata (members whose names begin with '@') are not supported")
        }
        try string()
        return UnsafeRawBufferPointer(rebasing: bytes[start..<index - 1])
    }

    private mutating func string() throws(RESTCONFError) {
        index += 1
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "\""): return
            case UInt8(ascii: "\\"): try escape()
            case 0..<0x20: throw bad("a string has a control character", at: index - 1)
            default: break
            }
        }
        throw bad("a string does not end")
    }

    private mutating func escape() throws(RESTCONFError) {
        guard index < bytes.count else { throw bad("a string does not end") }
        let kind = bytes[index]
        index += 1
        if kind == UInt8(ascii: "u") {
            let unit = try unit()
            guard (0xD800..<0xE000).contains(unit) else { return }
            guard unit < 0xDC00, peek == UInt8(ascii: "\\"), index + 1 < bytes.count, bytes[index + 1] == UInt8(ascii: "u") else {
                throw bad("half of a character is missing")
            }
            index += 2
            guard (0xDC00..<0xE000).contains(try self.unit()) else { throw bad("half of a character is missing") }
        } else if !"\"\\/bfnrt".utf8.contains(kind) {
            throw bad("there is no such escape", at: index - 1)
        }
    }

    /// Four hexadecimal digits.
    private mutating func unit() throws(RESTCONFError) -> Int {
        guard index + 4 <= bytes.count, bytes[index..<index + 4].allSatisfy(Self.isHexadecimal) else {
            throw bad("an escape has no four hexadecimal digits")
        }
        defer { index += 4 }
        return Int(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16) ?? 0
    }

    private mutating func word(_ word: StaticString) throws(RESTCONFError) {
        let end = index + word.utf8CodeUnitCount
        let same = end <= bytes.count && word.withUTF8Buffer { $0.elementsEqual(bytes[index..<end]) }
        guard same else { throw bad("a value should begin here") }
        index = end
    }

    private mutating func number() throws(RESTCONFError) {
        let start = index
        if peek == UInt8(ascii: "-") { index += 1 }
        if peek == UInt8(ascii: "0") { index += 1 } else if digits() == 0 { throw bad("a value should begin here", at: start) }
        if peek == UInt8(ascii: ".") {
            index += 1
            if digits() == 0 { throw bad("a number ends too early") }
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            index += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { index += 1 }
            if digits() == 0 { throw bad("a number ends too early") }
        }
    }

    // MARK: Bytes

    private var peek: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func digits() -> Int {
        let start = index
        while let byte = peek, (0x30...0x39).contains(byte) { index += 1 }
        return index - start
    }

    /// The next byte that is no blank; it stays.
    private mutating func skip() -> UInt8? {
        while let byte = peek {
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
            index += 1
        }
        return nil
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    private func bad(_ what: String, at place: Int? = nil) -> RESTCONFError {
        let before = bytes[..<min(place ?? index, bytes.count)]
        let line = before.count { $0 == 0x0A } + 1
        let column = before.count - (before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0) + 1
        return RESTCONFError(.protocol, .malformedMessage, "the text is no JSON: \(what) (line \(line), column \(column))")
    }
}
