// What a bench measures, for programs and for people.

import Foundation

/// One figure of the bench. `baseline` is what it is held against: what keeping up with the hardware needs, a figure that was aimed at, another
/// program's figure; the name says which where it is not the first.
struct BenchFigure: Codable, Sendable {
    var name: String
    var value: Double
    var unit: String
    var baseline: Double?
    /// `value` over `baseline`.
    var ratio: Double?

    /// - Parameter baseline: `nil` where there is nothing to hold it against.
    init(_ name: String, _ value: Double, _ unit: String, baseline: Double? = nil) {
        self.name = name
        self.value = value
        self.unit = unit
        self.baseline = baseline
        ratio = baseline.map { value / $0 }
    }

    /// Every field is always there; what is not known is null.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(value, forKey: .value)
        try container.encode(unit, forKey: .unit)
        try container.encode(baseline, forKey: .baseline)
        try container.encode(ratio, forKey: .ratio)
    }

    static func json(_ figures: [BenchFigure]) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(figures) + Data("\n".utf8)
    }

    static func table(_ figures: [BenchFigure]) -> String {
        let rows = figures.map { figure in
            [
                figure.name, "\(short(figure.value)) \(figure.unit)", figure.baseline.map(short) ?? "-",
                figure.ratio.map { String(format: "%.2f", $0) } ?? "-",
            ]
        }
        let all = [["figure", "value", "baseline", "ratio"]] + rows
        let widths = (0..<4).map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            row.enumerated().map { $0.element.padding(toLength: widths[$0.offset], withPad: " ", startingAt: 0) }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    private static func short(_ value: Double) -> String {
        switch abs(value) {
        case 1e9...: String(format: "%.2f G", value / 1e9)
        case 1e6...: String(format: "%.2f M", value / 1e6)
        case 1e3...: String(format: "%.2f k", value / 1e3)
        default: String(format: "%.4g", value)
        }
    }
}
