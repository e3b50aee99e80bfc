import Foundation
import PostProcessing
import Testing

/// The accounting against `scripts/recompute-key-length`, which shares no code with it.
@Suite struct AccountingRecordTests {
    static func record(
        link: TrueLink = TrueLink(), symbols: Int = 50_000_000, convention: FrameErrorConvention = .conservative,
        efficiencyError: Double = 0.003,
        drift: Double = 0, seed: UInt64
    ) throws -> AccountingRecord {
        var draws = Draws(seed)
        let calibration = try link.calibration(shot: symbols, dark: symbols / 10, &draws)
        let sums = link.sums(symbols: symbols, calibration: calibration, &draws)
        let verified = symbols / 102_400 * 102_400 - 3 * 102_400
        let frames = symbols / 102_400
        let counts = AccountingRecord.Counts(
            symbols: symbols, verifiedSymbols: verified, frames: frames, failedFrames: 3, syndromeBits: verified / 10 * 18,
            verificationBits: 25 * frames + 64, observedBits: 8 * frames + 128, alignmentSymbols: 100,
            authenticationBits: 4096, decodedInRound: frames > 10 ? [frames - 10, 4, 0, 3] : [],
            bitsPerRound: 205)
        return AccountingRecord(
            counts: counts, convention: convention, dark: calibration.dark, shot: calibration.shot, drift: drift, sums: sums,
            efficiency: try ReceiverEfficiency(0.8, standardError: efficiencyError), budget: try SecurityBudget())
    }

    /// Exit status and output of the script on these JSON lines.
    static func script(_ lines: [Data]) throws -> (status: Int32, output: String) {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", root.appending(path: "scripts/recompute-key-length").path, "-"]
        let (input, output) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (input, output, output)
        try process.run()
        input.fileHandleForWriting.write(Data(lines.joined(separator: Data("\n".utf8))))
        try input.fileHandleForWriting.close()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: text, as: UTF8.self))
    }

    @Test func scriptAgrees() throws {
        let records = try [
            Self.record(seed: 1), Self.record(convention: .selecting, seed: 2), Self.record(drift: 1e-5, seed: 3),
            Self.record(link: TrueLink(modulationVariance: 2.6, transmittance: 0.0794), symbols: 400_000_000, seed: 4),
            // No key, for several reasons.
            Self.record(link: TrueLink(excessNoise: 2), seed: 5), Self.record(link: TrueLink(transmittance: 1e-9), seed: 6),
            Self.record(symbols: 500_000, seed: 7), Self.record(efficiencyError: 0.05, seed: 8),
        ]
        #expect(records[0].length.secretBits > 1_000_000 && records[0].length.depositedBits == records[0].length.secretBits - 4096)
        #expect(records[4...6].allSatisfy { $0.length.secretBits == 0 && !$0.length.limitedBy.isEmpty })
        #expect(records[5].estimate == nil)
        let result = try Self.script(records.map { try JSONEncoder().encode($0) })
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.split(separator: "\n").count == records.count)
    }

    @Test(arguments: [
        "secretBits", "depositedBits", "syndromeBits", "observedBits", "disclosureBits", "bitsPerRound", "failedFrames", "xy",
        "worstHolevoBound", "sumSquaresX", "smoothing",
        "verifiedSymbols",
    ])
    func scriptNoticesAChangedNumber(name: String) throws {
        let text = String(decoding: try JSONEncoder().encode(Self.record(seed: 9)), as: UTF8.self)
        let key = try #require(text.range(of: "\"\(name)\":"))
        let number = text[key.upperBound...].prefix { !",}".contains($0) }
        let changed = try #require(Double(number)) * 0.999
        let written = number.contains { ".e".contains($0) } ? "\(changed)" : "\(Int(changed))"
        let forged = text.replacingCharacters(in: number.startIndex..<number.endIndex, with: written)
        let result = try Self.script([Data(forged.utf8)])
        #expect(result.status == 1, "\(result.output)")
    }

    @Test func scriptRefusesRubbish() throws {
        #expect(try Self.script([Data("{}".utf8)]).status == 2)
        #expect(try Self.script([Data("no json".utf8)]).status == 2)
    }

    @Test func recordsSurviveTheLog() throws {
        let record = try Self.record(seed: 10)
        #expect(try JSONDecoder().decode(AccountingRecord.self, from: JSONEncoder().encode(record)) == record)
    }
}
