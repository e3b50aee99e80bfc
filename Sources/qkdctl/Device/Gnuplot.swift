// Traces as PNG or SVG, by the gnuplot program of Debian.

import Foundation
import Glibc

enum Gnuplot {
    /// - Parameters:
    ///   - file: ends in .png or .svg.
    ///   - replaces: an existing file is replaced, when the drawing is whole; otherwise it is never touched.
    /// - Throws: `DeviceFailure.plot` where gnuplot is missing or fails, or the file cannot be written; `.exists`, `.notPlain`.
    static func draw(_ trace: Trace, to file: String, replaces: Bool) throws {
        let drawing = try run(script(trace, isSVG: file.hasSuffix(".svg")), for: file)
        // Beside the file, so that it comes to be whole or not at all.
        let part = "\(file).\(getpid()).part"
        defer { unlink(part) }
        let target = open(part, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o666)
        guard target >= 0 else { throw failure(file) }
        defer { close(target) }
        var done = 0
        while done < drawing.count {
            let count = drawing.withUnsafeBytes { write(target, $0.baseAddress?.advanced(by: done), $0.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure(file) }
            done += count
        }
        guard fsync(target) == 0 else { throw failure(file) }
        try NewFile.check(file, replaces: replaces)
        guard rename(part, file) == 0 else { throw failure(file) }
    }

    private static func failure(_ file: String) -> DeviceFailure { .plot("cannot write \(file): \(String(cString: strerror(errno)))") }

    /// - Returns: what gnuplot draws, as it comes out of it.
    private static func run(_ script: String, for file: String) throws -> Data {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["gnuplot"]
        let (input, output, errors) = (Pipe(), Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        // gnuplot may end before it has read everything; that is its exit status's news, not a signal's.
        signal(SIGPIPE, SIG_IGN)
        try process.run()
        // It reads all of its script before it draws, and says little besides.
        try? input.fileHandleForWriting.write(contentsOf: Data(script.utf8))
        try? input.fileHandleForWriting.close()
        let drawing = try output.fileHandleForReading.readToEnd() ?? Data()
        let complaint = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        switch process.terminationStatus {
        // It says 0 even after it could not draw.
        case 0: guard !drawing.isEmpty else { throw DeviceFailure.plot("gnuplot drew nothing for \(file): \(reason(complaint))") }
        case 127: throw DeviceFailure.plot("gnuplot is not installed: apt install gnuplot-nox, or leave --plot out")
        default: throw DeviceFailure.plot("gnuplot could not draw \(file): \(reason(complaint))")
        }
        return drawing
    }

    private static func reason(_ complaint: Data) -> String {
        let lines = String(decoding: complaint, as: UTF8.self).split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        return lines.last { !$0.isEmpty } ?? "no reason given"
    }

    static func script(_ trace: Trace, isSVG: Bool) -> String {
        let terminal = isSVG ? "svg size 900,500 dynamic" : "pngcairo size 900,500"
        let data = trace.finite.map { "\($0.x) \($0.y)" }.joined(separator: "\n")
        return """
            set terminal \(terminal)
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
