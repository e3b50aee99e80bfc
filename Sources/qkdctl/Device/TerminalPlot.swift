// Traces in Braille: every character cell holds two by four dots.

import Foundation

/// Points to draw.
struct Trace {
    var title: String
    var xLabel: String
    var yLabel: String
    var points: [(x: Double, y: Double)]

    /// Points that can be drawn.
    var finite: [(x: Double, y: Double)] { points.filter { $0.x.isFinite && $0.y.isFinite } }
}

/// Draws a trace as lines of text.
struct TerminalPlot {
    /// Size of the drawing without labels, in characters.
    var columns: Int
    var rows: Int

    private static let labelWidth = 9
    /// Bits of a Braille pattern by column and row of its dots.
    private static let dots: [[UInt32]] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]]

    func draw(_ trace: Trace) -> String {
        let points = trace.finite
        guard let xs = Self.range(points.map(\.x)), let ys = Self.range(points.map(\.y)) else { return "\(trace.title): no points" }
        var cells = [[UInt32]](repeating: [UInt32](repeating: 0, count: columns), count: rows)
        let (width, height) = (2 * columns, 4 * rows)
        func place(_ point: (x: Double, y: Double)) -> (Int, Int) {
            (
                Int((point.x - xs.lowerBound) / (xs.upperBound - xs.lowerBound) * Double(width - 1) + 0.5),
                Int((ys.upperBound - point.y) / (ys.upperBound - ys.lowerBound) * Double(height - 1) + 0.5)
            )
        }
        func dot(_ column: Int, _ row: Int) { cells[row / 4][column / 2] |= Self.dots[column % 2][row % 4] }
        for (start, end) in zip(points, points.dropFirst()) { Self.line(place(start), place(end), dot) }
        if points.count == 1 { dot(place(points[0]).0, place(points[0]).1) }
        return lines(cells, trace, xs, ys).joined(separator: "\n")
    }

    private func lines(_ cells: [[UInt32]], _ trace: Trace, _ xs: ClosedRange<Double>, _ ys: ClosedRange<Double>) -> [String] {
        let body = cells.enumerated().map { index, row in
            let share = Double(index) / Double(max(1, rows - 1))
            let hasLabel = index % 5 == 0 || index == rows - 1
            let label = hasLabel ? Self.number(ys.upperBound - share * (ys.upperBound - ys.lowerBound)) : ""
            let text = String(String.UnicodeScalarView(row.compactMap { Unicode.Scalar(0x2800 + $0) }))
            return Self.padded(label) + (hasLabel ? " ┤" : " │") + text
        }
        let left = Self.number(xs.lowerBound)
        let right = Self.number(xs.upperBound)
        let middle = String(repeating: " ", count: max(1, columns - left.count - right.count))
        let margin = String(repeating: " ", count: Self.labelWidth)
        return [trace.title, margin + "  " + trace.yLabel] + body
            + [margin + " └" + String(repeating: "─", count: columns), margin + "  " + left + middle + right, margin + "  " + trace.xLabel]
    }

    private static func padded(_ label: String) -> String { String(repeating: " ", count: max(0, labelWidth - label.count)) + label }

    private static func number(_ value: Double) -> String { String(format: "%.5g", value) }

    /// The values' range, never empty.
    private static func range(_ values: [Double]) -> ClosedRange<Double>? {
        guard let least = values.min(), let most = values.max() else { return nil }
        return least < most ? least...most : (least - 0.5)...(most + 0.5)
    }

    /// Bresenham.
    private static func line(_ from: (Int, Int), _ to: (Int, Int), _ dot: (Int, Int) -> Void) {
        var (x, y) = from
        let (dx, dy) = (abs(to.0 - x), -abs(to.1 - y))
        let (sx, sy) = (x < to.0 ? 1 : -1, y < to.1 ? 1 : -1)
        var error = dx + dy
        while true {
            dot(x, y)
            if (x, y) == to { return }
            let twice = 2 * error
            if twice >= dy {
                error += dy
                x += sx
            }
            if twice <= dx {
                error += dx
                y += sy
            }
        }
    }
}
