// A Decoder over YAML nodes that knows where each value stands and which keys were asked for.

import Foundation
import Yams

/// One reading of one file: remembers the keys that each mapping was asked for, so that the rest can be refused.
final class ConfigurationReading {
    let file: String
    private var asked: [String: Set<String>] = [:]

    init(file: String) { self.file = file }

    func value<T: Decodable>(of node: Node, at path: [any CodingKey]) throws(NodeRuntimeError) -> T {
        do {
            return try T(from: ConfigurationDecoder(node: node, codingPath: path, reading: self))
        } catch let error as NodeRuntimeError {
            throw error
        } catch DecodingError.keyNotFound(let key, let context) {
            throw problem(node, context.codingPath, "'\(key.stringValue)' is missing")
        } catch DecodingError.dataCorrupted(let context) {
            throw problem(node, context.codingPath.isEmpty ? path : context.codingPath, context.debugDescription)
        } catch {
            throw problem(node, path, "\(error)")
        }
    }

    func note(_ key: String, at path: [any CodingKey]) { asked[text(path), default: []].insert(key) }

    func problem(_ node: Node, _ path: [any CodingKey], _ problem: String) -> NodeRuntimeError {
        .configuration(file: file, line: node.mark?.line ?? 1, key: text(path), problem: problem)
    }

    /// Refuses every key of `node` and below that nobody asked for.
    func refuseUnknownKeys(in node: Node, at path: [any CodingKey]) throws(NodeRuntimeError) {
        if let sequence = node.sequence {
            for (index, element) in sequence.enumerated() { try refuseUnknownKeys(in: element, at: path + [PathKey(index)]) }
        }
        guard let mapping = node.mapping, let known = asked[text(path)] else { return }
        for (key, value) in mapping {
            let name = key.scalar?.string ?? "?"
            let here = path + [PathKey(name)]
            guard known.contains(name) else {
                throw problem(key, here, "is unknown here; known: \(known.sorted().joined(separator: ", "))")
            }
            try refuseUnknownKeys(in: value, at: here)
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
        guard let node = find(key) else { throw decoder.reading.problem(decoder.node, codingPath, "'\(key.stringValue)' is missing") }
        return ConfigurationDecoder(node: node, codingPath: codingPath + [key], reading: decoder.reading)
    }

    func contains(_ key: Key) -> Bool { find(key) != nil }
    func decodeNil(forKey key: Key) throws -> Bool { try child(key).isNull }
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try child(key).bool() }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { try child(key).scalar("text") }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try child(key).double() }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float { Float(try child(key).double()) }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try child(key).integer() }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try child(key).integer() }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try child(key).integer() }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try child(key).integer() }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try child(key).integer() }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try child(key).integer() }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try child(key).integer() }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try child(key).integer() }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try child(key).integer() }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try child(key).integer() }

    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
        let child = try child(key)
        return try child.reading.value(of: child.node, at: child.codingPath)
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
