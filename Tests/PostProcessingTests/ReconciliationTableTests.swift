import PostProcessingKernels
import QKDModel
import Testing

/// Tables are checked when they are opened: a small sound one opens, a damaged one does not.
@Suite struct ReconciliationTableTests {
    /// Two core columns of degree 2, one of degree 3, three core rows, three LDGM rows, two blocks.
    static let sound: [[UInt8]] = [
        [3, 0, 5, 1, 1, 0, 0, 2, 9, 1], [3, 0, 63, 0, 1, 7, 1, 2, 30, 0], [2, 2, 1, 1, 1, 4, 0],
        [2, 0, 0, 0, 1, 17, 1], [2, 1, 0, 1, 2, 40, 0], [3, 0, 0, 1, 1, 33, 0, 2, 2, 1],
    ]

    static func opens(_ rows: [[UInt8]], columns: Int32 = 3, degree2: Int32 = 1, blocks: Int32 = 4, step: Int32 = 40) -> Bool {
        let table = rows.flatMap { $0 }
        let code = ldpc_code_parse("small", columns, degree2, 3, Int32(rows.count - 3), blocks, step, table, table.count)
        defer { ldpc_code_close(code) }
        return code != nil
    }

    @Test func soundTableOpens() { #expect(Self.opens(Self.sound)) }

    enum Damage: CaseIterable { case truncated, surplus, column, lane, block, twice, degree, normalForm, coreDegrees, step }

    @Test(arguments: Damage.allCases) func damagedTableIsRefused(damage: Damage) {
        var rows = Self.sound
        switch damage {
        case .truncated: rows[5].removeLast()
        case .surplus: rows[5].append(0)
        case .column: rows[0][1] = 3
        case .lane: rows[0][2] = 64
        case .block: rows[0][3] = 4
        case .twice: rows[5][7] = 1
        case .degree: rows[5][0] = 0
        case .normalForm: rows[3][2] = 1
        case .coreDegrees: break
        case .step: break
        }
        #expect(!Self.opens(rows, degree2: damage == .coreDegrees ? 2 : 1, step: damage == .step ? 65 : 40))
    }

    /// Random bytes never open and never overrun.
    @Test func noiseIsRefused() {
        let random = SplitMix(96)
        for length in 0..<200 {
            let table = random.bytes(length).map { $0 & 7 }
            #expect(ldpc_code_parse("noise", 3, 1, 3, 3, 4, 40, table, length) == nil)
        }
        #expect(ldpc_code_open(-1, 0) == nil)
        #expect(ldpc_code_open(ldpc_code_count(), 0) == nil)
        #expect(ldpc_code_open(0, -1) == nil)
        #expect(ldpc_code_open(0, ldpc_code_steps(0) + 1) == nil)
    }
}
