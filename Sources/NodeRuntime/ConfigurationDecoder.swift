// A Decoder over YAML nodes that knows where each value stands and which keys were asked for.

import Foundation
import Yams

/// One reading of one file: remembers the keys that each mapping was asked for, so that the rest can be refused, and all that
/// was wrong, so that a person hears of everything at once.
///
/// What is missing or wrong is put down as a problem and replaced by a stand-in (the first case of an enumeration, 0, empty
/// text ...), so that reading goes on and the other keys are asked for too. The value that comes out is thrown away then.
final class ConfigurationReading {
    let file: String
    private var asked: [String: Set<String>] = [:]
    private(set) var problems: [NodeRuntimeError] = []

    init(file: String) { self.file = file }

    func add(_ problem: NodeRuntimeError) { if !problems.contains(problem) { problems.append(problem) } }

    /// The value of `node`, or a stand-in after its problems were put down.
    /// - Throws: where there is no stand-in; the problems are put down also then.
    func value<T: Decodable>(of node: Node, at path: [any CodingKey]) throws -> T {
        let before = problems.count
        do {
            return try T(from: ConfigurationDecoder(node: node, codingPath: path, reading: self))
        } catch {
            // What fails over a stand-in is no fault of the file's.
            if problems.count == before { add(explain(error, T.self, node, path)) }
            return try standIn()
        }
    }

    private func explain<T>(_ error: any Error, _ type: T.Type, _ node: Node, _ path: [any CodingKey]) -> NodeRuntimeError {
        if let error = error as? NodeRuntimeError { return error }
        if let choices = Self.choices(of: type), case .scalar(let scalar) = node {
            return problem(node, path, "'\(scalar.string.prefix(60))' is none of \(choices.joined(separator: ", "))")
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return problem(node, context.codingPath, "'\(key.stringValue)' is missing")
        case DecodingError.dataCorrupted(let context):
            return problem(node, context.codingPath.isEmpty ? path : context.codingPath, context.debugDescription)
        default: return problem(node, path, "\(error)")
        }
    }

    /// The words of an enumeration.
    private static func choices<T>(of type: T.Type) -> [String]? {
        guard let type = type as? any CaseIterable.Type else { return nil }
        func words<E: CaseIterable>(_ type: E.Type) -> [String] {
            type.allCases.compactMap { ($0 as? any RawRepresentable)?.rawValue as? String }
        }
        let words = words(type)
        return words.isEmpty ? nil : words
    }

    /// Some value of a type.
    func standIn<T: Decodable>() throws -> T {
        func first<E: CaseIterable>(_ type: E.Type) -> Any? { type.allCases.first }
        if let type = T.self as? any CaseIterable.Type, let value = first(type) as? T { return value }
        if let value = UUID() as? T { return value }
        return try T(from: StandInDecoder())
    }

    func note(_ key: String, at path: [any CodingKey]) { asked[text(path), default: []].insert(key) }

    func problem(_ node: Node, _ path: [any CodingKey], _ problem: String) -> NodeRuntimeError {
        .configuration(file: file, line: node.mark?.line ?? 1, key: text(path), problem: problem)
    }

    /// Puts down every key of `node` and below that nobody asked for.
    func refuseUnknownKeys(in node: Node, at path: [any CodingKey]) {
        if let sequence = node.sequence {
            for (index, element) in sequence.enumerated() { refuseUnknownKeys(in: element, at: path + [PathKey(index)]) }
        }
        guard let mapping = node.mapping, let known = asked[text(path)] else { return }
        for (key, value) in mapping {
            let name = key.scalar?.string ?? "?"
            let here = path + [PathKey(name)]
            guard known.contains(name) else {
                add(problem(key, here, "is unknown here; known: \(known.sorted().joined(separator: ", "))"))
                continue
            }
            refuseUnknownKeys(in: value, at: here)
        }
    }

    /// `links[0].loss_db`
    func text(_ path: [any CodingKey]) -> String {
        path.reduce(into: "") { text, key in
            if let index = key.intValue { text += "[\(index)]" } else { text += (text.isEmpty ? "" : ".") + key.stringValue }
        }
    }
}

struct PathKey: CodingKey {
    let stringValue: String
    let intValue: Int?
    init(_ name: String) { (stringValue, intValue) = (name, nil) }
    init(_ index: Int) { (stringValue, intValue) = ("\(index)", index) }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { self.init(intValue) }
}

private struct ConfigurationDecoder: Decoder {
    let node: Node
    let codingPath: [any CodingKey]
    let reading: ConfigurationReading
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .mapping(let mapping) = node else { throw reading.problem(node, codingPath, "needs keys and values") }
        return KeyedDecodingContainer(Keyed<Key>(mapping: mapping, decoder: self))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .sequence(let sequence) = node else { throw reading.problem(node, codingPath, "needs a list") }
        return Unkeyed(elements: Array(sequence), decoder: self)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { Single(decoder: self) }

    /// The scalar's text.
    func scalar(_ wanted: String) throws -> String {
        guard case .scalar(let scalar) = node else { throw reading.problem(node, codingPath, "needs \(wanted)") }
        return scalar.string
    }

    func read<T>(_ wanted: String, _ parse: (String) -> T?) throws -> T {
        let text = try scalar(wanted)
        guard let value = parse(text) else { throw reading.problem(node, codingPath, "'\(text.prefix(60))' is no \(wanted)") }
        return value
    }

    var isNull: Bool { node.null != nil }

    func bool() throws -> Bool { try read("true or false") { ["true": true, "false": false][$0] } }

    func double() throws -> Double { try read("number") { Double(digits($0)).flatMap { $0.isFinite ? $0 : nil } } }

    /// `50_000_000` is easier to read than 50000000.
    private func digits(_ text: String) -> String { text.first?.isNumber == true ? text.replacing("_", with: "") : text }

    /// `5e7` counts as an integer where it is one exactly.
    func integer<T: FixedWidthInteger>() throws -> T {
        try read("whole number from \(T.min) to \(T.max)") { T(digits($0)) ?? Double(digits($0)).flatMap(T.init(exactly:)) }
    }
}

private struct Keyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let mapping: Node.Mapping
    let decoder: ConfigurationDecoder
    var codingPath: [any CodingKey] { decoder.codingPath }

    var allKeys: [Key] { mapping.keys.compactMap { $0.scalar.flatMap { Key(stringValue: $0.string) } } }

    private func find(_ key: Key) -> Node? {
        decoder.reading.note(key.stringValue, at: codingPath)
        return mapping.first { $0.key.scalar?.string == key.stringValue }?.value
    }

    private func child(_ key: Key) throws -> ConfigurationDecoder {
        guard let node = find(key) else { throw missing(key) }
        return ConfigurationDecoder(node: node, codingPath: codingPath + [key], reading: decoder.reading)
    }

    private func missing(_ key: Key) -> NodeRuntimeError {
        decoder.reading.problem(decoder.node, codingPath, "'\(key.stringValue)' is missing")
    }

    /// A plain value, or `standIn` after the problem was put down.
    private func plain<T>(_ key: Key, _ standIn: T, _ read: (ConfigurationDecoder) throws -> T) -> T {
        do { return try read(try child(key)) } catch {
            decoder.reading.add(
                error as? NodeRuntimeError ?? decoder.reading.problem(decoder.node, codingPath + [key], "\(error)"))
            return standIn
        }
    }

    func contains(_ key: Key) -> Bool { find(key) != nil }
    func decodeNil(forKey key: Key) throws -> Bool { try child(key).isNull }
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { plain(key, false) { try $0.bool() } }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { plain(key, "") { try $0.scalar("text") } }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { plain(key, 0) { try $0.double() } }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float { Float(plain(key, 0) { try $0.double() }) }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { plain(key, 0) { try $0.integer() } }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { plain(key, 0) { try $0.integer() } }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { plain(key, 0) { try $0.integer() } }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { plain(key, 0) { try $0.integer() } }

    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
        guard let node = find(key) else {
            decoder.reading.add(missing(key))
            return try decoder.reading.standIn()
        }
        return try decoder.reading.value(of: node, at: codingPath + [key])
    }

    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) throws -> KeyedDecodingContainer<Nested> {
        try child(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { try child(key).unkeyedContainer() }
    func superDecoder() throws -> any Decoder { decoder }
    func superDecoder(forKey key: Key) throws -> any Decoder { try child(key) }
}

private struct Unkeyed: UnkeyedDecodingContainer {
    let elements: [Node]
    let decoder: ConfigurationDecoder
    private(set) var currentIndex = 0

    init(elements: [Node], decoder: ConfigurationDecoder) {
        self.elements = elements
        self.decoder = decoder
    }

    var codingPath: [any CodingKey] { decoder.codingPath }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex >= elements.count }

    private mutating func next() throws -> ConfigurationDecoder {
        guard !isAtEnd else { throw decoder.reading.problem(decoder.node, codingPath, "the list is too short") }
        defer { currentIndex += 1 }
        let path = codingPath + [PathKey(currentIndex)]
        return ConfigurationDecoder(node: elements[currentIndex], codingPath: path, reading: decoder.reading)
    }

    mutating func decodeNil() throws -> Bool {
        guard !isAtEnd, elements[currentIndex].null != nil else { return false }
        currentIndex += 1
        return true
    }

    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
        let child = try next()
        return try child.reading.value(of: child.node, at: child.codingPath)
    }

    mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) throws -> KeyedDecodingContainer<Nested> {
        try next().container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try next().unkeyedContainer() }
    mutating func superDecoder() throws -> any Decoder { try next() }
}

private struct Single: SingleValueDecodingContainer {
    let decoder: ConfigurationDecoder
    var codingPath: [any CodingKey] { decoder.codingPath }

    func decodeNil() -> Bool { decoder.isNull }
    func decode(_ type: Bool.Type) throws -> Bool { try decoder.bool() }
    func decode(_ type: String.Type) throws -> String { try decoder.scalar("text") }
    func decode(_ type: Double.Type) throws -> Double { try decoder.double() }
    func decode(_ type: Float.Type) throws -> Float { Float(try decoder.double()) }
    func decode(_ type: Int.Type) throws -> Int { try decoder.integer() }
    func decode(_ type: Int8.Type) throws -> Int8 { try decoder.integer() }
    func decode(_ type: Int16.Type) throws -> Int16 { try decoder.integer() }
    func decode(_ type: Int32.Type) throws -> Int32 { try decoder.integer() }
    func decode(_ type: Int64.Type) throws -> Int64 { try decoder.integer() }
    func decode(_ type: UInt.Type) throws -> UInt { try decoder.integer() }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try decoder.integer() }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try decoder.integer() }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try decoder.integer() }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try decoder.integer() }
    func decode<T: Decodable>(_ type: T.Type) throws -> T { try decoder.reading.value(of: decoder.node, at: codingPath) }
}

// MARK: - Stand-ins

/// Decodes whatever is asked for: false, 0, "x", empty lists, nothing where something may be missing. No file is behind it.
private struct StandInDecoder: Decoder {
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }
    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        KeyedDecodingContainer(StandInKeyed<Key>())
    }
    func unkeyedContainer() throws -> any UnkeyedDecodingContainer { StandInUnkeyed() }
    func singleValueContainer() throws -> any SingleValueDecodingContainer { StandInSingle() }

    static func value<T: Decodable>() throws -> T { try ConfigurationReading(file: "").standIn() }
}

private struct StandInKeyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { [] }
    func contains(_ key: Key) -> Bool { false }
    func decodeNil(forKey key: Key) throws -> Bool { true }
    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T { try StandInDecoder.value() }
    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) throws -> KeyedDecodingContainer<Nested> {
        KeyedDecodingContainer(StandInKeyed<Nested>())
    }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { StandInUnkeyed() }
    func superDecoder() throws -> any Decoder { StandInDecoder() }
    func superDecoder(forKey key: Key) throws -> any Decoder { StandInDecoder() }
}

private struct StandInUnkeyed: UnkeyedDecodingContainer {
    var codingPath: [any CodingKey] { [] }
    var count: Int? { 0 }
    var isAtEnd: Bool { true }
    var currentIndex: Int { 0 }
    mutating func decodeNil() throws -> Bool { true }
    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T { try StandInDecoder.value() }
    mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) throws -> KeyedDecodingContainer<Nested> {
        KeyedDecodingContainer(StandInKeyed<Nested>())
    }
    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { StandInUnkeyed() }
    mutating func superDecoder() throws -> any Decoder { StandInDecoder() }
}

private struct StandInSingle: SingleValueDecodingContainer {
    var codingPath: [any CodingKey] { [] }
    func decodeNil() -> Bool { false }
    func decode(_ type: Bool.Type) throws -> Bool { false }
    func decode(_ type: String.Type) throws -> String { "x" }
    func decode(_ type: Double.Type) throws -> Double { 0 }
    func decode(_ type: Float.Type) throws -> Float { 0 }
    func decode(_ type: Int.Type) throws -> Int { 0 }
    func decode(_ type: Int8.Type) throws -> Int8 { 0 }
    func decode(_ type: Int16.Type) throws -> Int16 { 0 }
    func decode(_ type: Int32.Type) throws -> Int32 { 0 }
    func decode(_ type: Int64.Type) throws -> Int64 { 0 }
    func decode(_ type: UInt.Type) throws -> UInt { 0 }
    func decode(_ type: UInt8.Type) throws -> UInt8 { 0 }
    func decode(_ type: UInt16.Type) throws -> UInt16 { 0 }
    func decode(_ type: UInt32.Type) throws -> UInt32 { 0 }
    func decode(_ type: UInt64.Type) throws -> UInt64 { 0 }
    func decode<T: Decodable>(_ type: T.Type) throws -> T { try StandInDecoder.value() }
}
