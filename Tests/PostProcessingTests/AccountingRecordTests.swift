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
        "verifiedSymbols", "holevoBits", "asymptoticBits", "frameErrorRate", "reconciliationEfficiency", "signalToNoise", "electronicNoise",
        "maximalTransmittance", "excessNoiseError", "boundEpsilon",
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

    /// As the link service publishes it.
    static func block(_ record: AccountingRecord, _ changed: [String: Any] = [:]) throws -> [String: Any] {
        let length = record.length
        let block: [String: Any] = [
            "rawBits": Int(length.rawBits), "disclosedBits": Int(length.disclosedBits), "holevoBits": Int(length.holevoBits),
            "secretBits": length.secretBits, "padBits": length.authenticationBits, "depositedBits": length.depositedBits,
            "secretBitsSelecting": length.secretBitsOtherConvention, "snr": record.estimate?.signalToNoise ?? 0,
            "excessNoiseWorst": record.estimate?.maximalExcessNoise ?? 0, "framesFailed": record.counts.failedFrames,
            "terms": ["smoothing": length.smoothingBits, "secret": Double(length.secretBits)],
            "accounting": String(decoding: try JSONEncoder().encode(record), as: UTF8.self),
        ]
        return block.merging(changed) { $1 }
    }

    @Test func scriptComparesWhatBlocksPublish() throws {
        let record = try Self.record(seed: 11)
        func status(_ blocks: [[String: Any]]) throws -> (status: Int32, output: String) {
            try Self.script([JSONSerialization.data(withJSONObject: blocks)])
        }
        let honest = try status([Self.block(record)])
        #expect(honest.status == 0 && honest.output.contains("agrees"), "\(honest)")
        for name in ["depositedBits", "secretBits", "rawBits", "holevoBits", "padBits", "snr", "excessNoiseWorst", "framesFailed"] {
            let forged = try status([Self.block(record, [name: 1_000_000_000])])
            #expect(forged.status == 1 && forged.output.contains("published"), "\(name): \(forged)")
        }
        #expect(try status([Self.block(record, ["terms": ["smoothing": 1.0]])]).status == 1)
        // Key that nobody stored, as of a link that records.
        let nothing: [String: Any] = [
            "rawBits": 0, "disclosedBits": 0, "holevoBits": 0, "secretBits": 0, "padBits": 0, "depositedBits": 0, "secretBitsSelecting": 0,
        ]
        let withheld = try status([Self.block(record, nothing).filter { $0.key != "terms" }])
        #expect(withheld.status == 0 && withheld.output.contains("of which the block gave none"), "\(withheld)")
    }

    /// What was not checked is named, and is never a success by itself.
    @Test func scriptSaysWhatItDidNotCheck() throws {
        let record = try Self.record(seed: 12)
        let bare = try Self.block(record, ["accounting": NSNull()])
        let void: [String: Any] = ["depositedBits": 0, "accounting": NSNull()]
        for (blocks, status, words) in [
            ([bare], 1, "no accounting record to follow from"), ([try Self.block(record), bare], 1, "NOT CHECKED"),
            ([try Self.block(record), void], 0, "NOT CHECKED"), ([void], 1, "nothing was checked"), ([], 1, "nothing was checked"),
            ([try Self.block(record, ["accounting": ""])], 2, "is no JSON"),
            ([try Self.block(record, ["accounting": [1]])], 2, "has no record"),
        ] as [([[String: Any]], Int32, String)] {
            let result = try Self.script([JSONSerialization.data(withJSONObject: blocks)])
            #expect(result.status == status && result.output.contains(words) && !result.output.contains("Traceback"), "\(words): \(result)")
        }
        for (text, status) in [("", Int32(1)), ("\n\n", 1), ("[1]", 2), ("{\"counts\": 5}", 2), ("\"text\"", 2)] {
            let result = try Self.script([Data(text.utf8)])
            #expect(result.status == status && result.output.contains("recompute-key-length: "), "\(text): \(result)")
            #expect(!result.output.contains("Traceback"), "\(text): \(result)")
        }
    }

    @Test func recordsSurviveTheLog() throws {
        let record = try Self.record(seed: 10)
        #expect(try JSONDecoder().decode(AccountingRecord.self, from: JSONEncoder().encode(record)) == record)
    }
}
