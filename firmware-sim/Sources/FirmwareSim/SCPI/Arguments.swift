// Arguments of one command, typed when the command asks.

/// The comma-separated parameters of a unit. Reading a parameter of the wrong kind throws the standard's error.
struct Arguments: Equatable {
    private let items: [String]

    init(_ items: [String]) { self.items = items }

    var count: Int { items.count }

    /// - Throws: -109 or -108 unless the count is in `range`.
    func check(_ range: ClosedRange<Int>) throws(SCPIError) {
        if items.count < range.lowerBound { throw SCPIError(-109) }
        if items.count > range.upperBound { throw SCPIError(-108) }
    }

    private func item(_ index: Int) throws(SCPIError) -> String {
        guard items.indices.contains(index) else { throw SCPIError(-109) }
        return items[index]
    }

    /// `ON`, `OFF`, or a number (0 is off).
    func bool(_ index: Int) throws(SCPIError) -> Bool {
        let text = try item(index).uppercased()
        if text == "ON" { return true }
        if text == "OFF" { return false }
        return try number(index).rounded() != 0
    }

    /// A string in quotes, quotes within doubled.
    func string(_ index: Int) throws(SCPIError) -> String {
        let text = try item(index)
        guard let quote = text.first, quote == "\"" || quote == "'" else { throw SCPIError(-104, "a string in quotes is wanted") }
        guard text.count >= 2, text.last == quote else { throw SCPIError(-151) }
        return String(text.dropFirst().dropLast()).replacing("\(quote)\(quote)", with: "\(quote)")
    }

    /// A word such as `SHOT`, in capitals.
    func word(_ index: Int) throws(SCPIError) -> String {
        let text = try item(index).uppercased()
        guard let first = text.first, first.isLetter, text.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" }) else {
            throw SCPIError(-104, "a word is wanted")
        }
        return text
    }

    /// A number with an optional suffix out of `units` (name in capitals: factor).
    func number(_ index: Int, units: [String: Double] = [:]) throws(SCPIError) -> Double {
        let text = try item(index).uppercased()
        guard let first = text.first, first.isNumber || "+-.".contains(first) else { throw SCPIError(-104, "a number is wanted") }
        let (digits, suffix) = Self.splitSuffix(text)
        guard let value = Double(digits), value.isFinite else { throw SCPIError(-120) }
        if suffix.isEmpty { return value }
        guard let factor = units[suffix] else { throw SCPIError(-131, suffix) }
        return value * factor
    }

    func number(_ index: Int, in range: ClosedRange<Double>, units: [String: Double] = [:]) throws(SCPIError) -> Double {
        let value = try number(index, units: units)
        guard range.contains(value) else { throw SCPIError(-222) }
        return value
    }

    /// A whole number in `range`, parsed exactly (frame numbers have 64 bits).
    func whole(_ index: Int, in range: ClosedRange<UInt64>) throws(SCPIError) -> UInt64 {
        let text = try item(index)
        if let exact = UInt64(text) {
            guard range.contains(exact) else { throw SCPIError(-222) }
            return exact
        }
        let value = try number(index)
        guard value == value.rounded(), value >= 0, value < 1.8e19 else { throw SCPIError(-222) }
        guard range.contains(UInt64(value)) else { throw SCPIError(-222) }
        return UInt64(value)
    }

    /// `1.5E3 KHZ` is ("1.5E3", "KHZ").
    private static func splitSuffix(_ text: String) -> (String, String) {
        let characters = Array(text)
        var end = 0
        while end < characters.count {
            let character = characters[end]
            let exponent =
                character == "E" && end + 1 < characters.count
                && (characters[end + 1].isNumber || ("+-".contains(characters[end + 1]) && end + 2 < characters.count))
            guard character.isNumber || "+-.".contains(character) || exponent else { break }
            end += 1
        }
        return (String(characters[..<end]), String(characters[end...].filter { $0 != " " }))
    }
}
