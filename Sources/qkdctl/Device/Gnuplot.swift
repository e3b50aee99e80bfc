// Traces as PNG or SVG, by the gnuplot program of Debian.

import Foundation

enum Gnuplot {
    /// - Parameter file: ends in .png or .svg.
    /// - Throws: `DeviceFailure.plot` where gnuplot is missing or fails.
    static func draw(_ trace: Trace, to file: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["gnuplot"]
        let input = Pipe()
        let errors = Pipe()
        process.standardInput = input
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        let before = stamp(file)
        // gnuplot may end before it has read everything; that is its exit status's news, not a signal's.
        signal(SIGPIPE, SIG_IGN)
        try process.run()
        try? input.fileHandleForWriting.write(contentsOf: Data(script(trace, file).utf8))
        try? input.fileHandleForWriting.close()
        let complaint = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        switch process.terminationStatus {
        // It says 0 even after it could not open its output.
        case 0: guard stamp(file) != before else { throw DeviceFailure.plot("gnuplot drew nothing into \(file): \(reason(complaint))") }
        case 127: throw DeviceFailure.plot("gnuplot is not installed: apt install gnuplot-nox, or leave --plot out")
        default:
            throw DeviceFailure.plot("gnuplot could not draw \(file): \(reason(complaint))")
        }
    }

    /// - Returns: when the file was last written; nil where it is missing or empty.
    private static func stamp(_ file: String) -> Date? {
        guard let facts = try? FileManager.default.attributesOfItem(atPath: file), (facts[.size] as? NSNumber)?.intValue ?? 0 > 0 else {
            return nil
        }
        return facts[.modificationDate] as? Date
    }

    private static func reason(_ complaint: Data) -> String {
        let lines = String(decoding: complaint, as: UTF8.self).split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        return lines.last { !$0.isEmpty } ?? "no reason given"
    }

    static func script(_ trace: Trace, _ file: String) -> String {
        let terminal = file.hasSuffix(".svg") ? "svg size 900,500 dynamic" : "pngcairo size 900,500"
        let data = trace.finite.map { "\($0.x) \($0.y)" }.joined(separator: "\n")
        return """
            set terminal \(terminal)
            set output \(quoted(file))
            set title \(quoted(trace.title)) noenhanced
            set xlabel \(quoted(trace.xLabel)) noenhanced
            set ylabel \(quoted(trace.yLabel)) noenhanced
            set grid
            set autoscale xfix
            plot '-' using 1:2 with lines notitle
            \(data)
            e

            """
    }

    /// A string that gnuplot does not look into.
    private static func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "''"))'" }
}
