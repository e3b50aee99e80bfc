// What a person sees while a lab runs: a table that redraws itself on a terminal, plain lines elsewhere.

import Foundation
import Glibc

/// One link at one moment, in the table's words. `nil` is printed as a dash.
struct LabRow: Sendable, Equatable {
    var link: String
    /// State of the link and of its two devices.
    var state: String
    var transmitter: String
    var receiver: String
    /// What the slot or calibration window of the moment is.
    var activity: String
    /// Shot-noise symbols that the running block can count on, and their age.
    var calibration: String
    /// Share of the running block, 0 to 1.
    var progress: Double?
    var snr: Double?
    var transmittance: Double?
    var excessNoise: Double?
    /// Frames that failed, 0 to 1.
    var frameErrors: Double?
    /// bit/s of device time over whole blocks.
    var keyRate: Double?
    /// Bits in both stores, confirmed.
    var storedBits: Int
    var blocks: Int
    /// Why nothing moves, if so.
    var reason: String?
}

enum LabTable {
    private static let heads = [
        "link", "state", "transmitter", "receiver", "now", "calibration", "block", "SNR", "T", "xi/SNU", "FER", "key rate", "stored",
        "blocks",
    ]

    /// - Parameters:
    ///   - agents: a line for each agent.
    ///   - width: columns of text; a wider table is continued below itself.
    /// - Returns: the table's lines, the reasons of links that stand still, and the time.
    static func lines(_ rows: [LabRow], agents: [String] = [], seconds: Double, width: Int) -> [String] {
        let cells = [heads] + rows.map(cells)
        let widths = heads.indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
        var lines: [String] = []
        for columns in groups(widths, within: width) {
            func line(_ row: [String]) -> String {
                columns.map { pad(row[$0], to: widths[$0], right: $0 >= 7) }.joined(separator: "  ")
            }
            lines.append(line(heads))
            lines.append(columns.map { String(repeating: "-", count: widths[$0]) }.joined(separator: "  "))
            lines += cells.dropFirst().map(line)
        }
        lines += rows.compactMap { row in row.reason.map { "\(row.link): \($0)" } }
        lines += agents
        lines.append("running for \(Int(seconds)) s")
        return lines
    }

    /// Columns that fit beside each other; the first, the link's name, opens every group.
    private static func groups(_ widths: [Int], within width: Int) -> [[Int]] {
        var groups: [[Int]] = [[0]]
        var used = widths[0]
        for column in widths.indices.dropFirst() {
            if used + 2 + widths[column] > width, groups[groups.count - 1].count > 1 {
                groups.append([0])
                used = widths[0]
            }
            groups[groups.count - 1].append(column)
            used += 2 + widths[column]
        }
        return groups
    }

    private static func cells(_ row: LabRow) -> [String] {
        [
            row.link, row.state, row.transmitter, row.receiver, row.activity, row.calibration,
            bar(row.progress), number(row.snr, "%.4f"), number(row.transmittance, "%.4f"), number(row.excessNoise, "%.4f"),
            number(row.frameErrors, "%.3f"), row.keyRate.map(rate) ?? "-", bits(row.storedBits), "\(row.blocks)",
        ]
    }

    static func bar(_ share: Double?) -> String {
        guard let share, share.isFinite else { return "-" }
        let full = Int((min(max(share, 0), 1) * 10).rounded(.down))
        return String(repeating: "#", count: full) + String(repeating: ".", count: 10 - full)
            + pad("\(Int(share * 100))%", to: 5, right: true)
    }

    static func rate(_ bitsPerSecond: Double) -> String { scaled(bitsPerSecond, "b/s") }
    static func minutes(_ count: Double) -> String { String(format: "%g minutes", count) }
    static func bits(_ count: Int) -> String { scaled(Double(count), "bit") }

    private static func scaled(_ value: Double, _ unit: String) -> String {
        switch abs(value) {
        case 1e6...: String(format: "%.2f M", value / 1e6) + unit
        case 1e3...: String(format: "%.1f k", value / 1e3) + unit
        default: String(format: "%.0f ", value) + unit
        }
    }

    private static func number(_ value: Double?, _ format: String) -> String {
        guard let value, value.isFinite else { return "-" }
        return String(format: format, value)
    }

    private static func pad(_ text: String, to width: Int, right: Bool) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }
}

/// Standard error as a screen: the last block of lines is replaced in place on a terminal, and repeated at most
/// every `plainInterval` elsewhere.
struct LabScreen {
    static let plainInterval: Duration = .seconds(10)

    private let live: Bool
    private var drawn = 0
    private var lastPlain: ContinuousClock.Instant?

    /// - Parameter live: whether lines may be replaced.
    init(live: Bool = isatty(STDERR_FILENO) == 1) { self.live = live }

    /// A line that stays.
    mutating func say(_ text: String) {
        put(erased() + text + "\n")
        drawn = 0
    }

    /// The block of lines that follows the moment.
    mutating func show(_ lines: [String]) {
        guard live else {
            if let lastPlain, ContinuousClock.now - lastPlain < Self.plainInterval { return }
            lastPlain = .now
            put(lines.joined(separator: "\n") + "\n")
            return
        }
        put(erased() + lines.map { String($0.prefix(width)) }.joined(separator: "\n") + "\n")
        drawn = lines.count
    }

    private func erased() -> String {
        live && drawn > 0 ? "\u{1b}[\(drawn)A\u{1b}[J" : ""
    }

    /// Columns of the terminal. Lines longer than that would wrap and break the count of what is to be replaced.
    var width: Int {
        var size = winsize()
        guard live, ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return 200 }
        return Int(size.ws_col)
    }

    private func put(_ text: String) { Output.toErrors(text) }
}
