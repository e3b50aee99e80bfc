import PostProcessing
import QKDModel
import Testing

@Suite struct ReconciliationCodeTests {
    @Test(arguments: [
        ("r10-n204800", 204_800, 25_600, 0.10), ("r10-n1024000", 1_024_000, 128_000, 0.10),
        ("r05-n204800", 204_800, 14_336, 0.05), ("r05-n1024000", 1_024_000, 71_680, 0.05),
    ])
    func sizesAreTheDesign(id: String, bits: Int, core: Int, rate: Double) throws {
        let code = try ReconciliationCode.named(id)
        #expect(code.frameBits == bits)
        #expect(code.frameSymbols == bits / 2)
        #expect(code.coreBits == core)
        #expect(abs(code.rate - rate) < 1e-12)
        #expect(code.disclosedBits == code.syndromeBits + 24)
        #expect(abs(code.efficiency(snr: code.designSNR(efficiency: 0.92)) - 0.92) < 1e-12)
    }

    @Test func fourCodesAndNoOther() {
        #expect(ReconciliationCode.all.count == 4)
        #expect(throws: ReconciliationError.unknownCode("r20")) { try ReconciliationCode.named("r20") }
    }

    /// Degrees carry the threshold and the error floor: core columns have 2 or 3 core checks, and degree-2 columns have the more
    /// LDGM rows; core rows and LDGM rows are near-regular.
    @Test(arguments: ReconciliationCode.all) func degreesAreTheDesign(code: ReconciliationCode) {
        let graph = code.graph
        let two = code.rate > 0.07 ? 27 : 16
        var core = [Int](repeating: 0, count: graph.coreColumns)
        var ldgm = core
        var row = [Int](repeating: 0, count: graph.rows)
        for edge in graph.edges {
            row[edge.row] += 1
            if edge.row < graph.coreRows { core[edge.column] += 1 } else { ldgm[edge.column] += 1 }
        }
        #expect(core == (0..<graph.coreColumns).map { $0 < two ? 2 : 3 })
        #expect((ldgm.prefix(two).min() ?? 0) > (ldgm.suffix(graph.coreColumns - two).max() ?? 0))
        #expect(Set(row.prefix(graph.coreRows)).isSubset(of: code.rate > 0.07 ? [12, 13] : [8, 9]))
        #expect(Set(row.suffix(graph.rows - graph.coreRows)) == [2, 3])
    }

    /// The lifted graph is simple and has no 4-cycle: no two columns meet in two rows with the same difference of shifts.
    @Test(arguments: ReconciliationCode.all) func liftHasNoFourCycles(code: ReconciliationCode) {
        let graph = code.graph
        let rows = Dictionary(grouping: graph.edges, by: \.row)
        var seen = Set<[Int]>()
        var repeats = 0
        for edges in rows.values {
            for a in edges {
                for b in edges where a.column < b.column {
                    let lane = (a.lane - b.lane + 64) % 64
                    let block = (a.block - b.block + graph.blocks) % graph.blocks
                    if !seen.insert([a.column, b.column, lane, block]).inserted { repeats += 1 }
                }
            }
        }
        #expect(repeats == 0)
    }

    /// The syndrome against the definition, bit by bit.
    @Test(arguments: [r10, r05]) func syndromeIsTheSumOverTheGraph(id: String) throws {
        let code = try ReconciliationCode.named(id)
        let graph = code.graph
        let random = SplitMix(7)
        let word = (0..<code.frameBits / 64).map { _ in random.word() }
        let bit = { (words: [UInt64], index: Int) in words[index / 64] >> UInt64(index % 64) & 1 }
        let size = 64 * graph.blocks
        var slow = [UInt64](repeating: 0, count: code.syndromeBits)
        for row in graph.coreRows..<graph.rows {
            let own = (graph.coreColumns + row - graph.coreRows) * size
            for check in 0..<size { slow[row * size + check] = bit(word, own + check) }
        }
        for edge in graph.edges {
            for check in 0..<size {
                let (block, lane) = ((check / 64 + edge.block) % graph.blocks, (check % 64 + edge.lane) % 64)
                slow[edge.row * size + check] ^= bit(word, edge.column * size + block * 64 + lane)
            }
        }
        let fast = code.syndrome(word: word)
        #expect((0..<code.syndromeBits).allSatisfy { bit(fast, $0) == slow[$0] })
    }

    /// Every word of the code travels in one plane.
    @Test(arguments: ReconciliationCode.all) func interleaverIsAPermutation(code: ReconciliationCode) {
        #expect(code.planeOrder.sorted() == Array(0..<code.frameBits / 64))
    }
}
