import Glibc
import PostProcessing
import QKDModel
import Testing

@Suite struct ReconciliationCodeTests {
    @Test(arguments: [
        ("r10-n204800", 204_800, 25_600, 0.10), ("r10-n1024000", 1_024_000, 128_000, 0.10),
        ("r05-n204800", 204_800, 14_336, 0.05), ("r05-n1024000", 1_024_000, 71_680, 0.05),
        ("r02-n204800", 204_800, 7_168, 0.02), ("r20-n204800", 204_800, 49_664, 0.20),
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

    @Test func sevenRatesInTwoSizesAndNoOther() {
        let rates = ["r02", "r03", "r05", "r07", "r10", "r15", "r20"]
        #expect(ReconciliationCode.all.map(\.id) == rates.map { $0 + "-n204800" } + rates.map { $0 + "-n1024000" })
        for id in [
            "r30", "", "+1", "r10-n204800+", "r10-n204800+0", "r10-n204800+01", "r10-n204800+135", "r10-n204800+-1", "r10-n204800+1+1",
        ] {
            #expect(throws: ReconciliationError.unknownCode(id)) { try ReconciliationCode.named(id) }
        }
    }

    /// Steps raise the rate by about 1/400 each, keep core and information, and leave whole sets of quadratures.
    @Test(arguments: ReconciliationCode.all) func stepsAreFine(code: ReconciliationCode) throws {
        var last = code
        for step in [1, 2, code.steps / 2, code.steps] {
            let here = try ReconciliationCode.named("\(code.id)+\(step)")
            #expect(here.id == "\(code.id)+\(step)")
            #expect((here.base, here.step, here.coreBits) == (code.id, step, code.coreBits))
            #expect(here.frameBits - here.syndromeBits == code.frameBits - code.syndromeBits)
            #expect(here.frameBits == code.frameBits / 400 * (400 - step))
            #expect(here.frameBits % 512 == 0)
            #expect(here.planeOrder.sorted() == Array(0..<here.frameBits / 64))
            // The graph is the base's without its last rows.
            #expect(here.graph.edges == code.graph.edges.filter { $0.row < here.graph.rows })
            #expect(here.rate > last.rate)
            last = here
        }
    }

    /// From R = .02 to .2 there is a code whose efficiency is near the one asked for, and never above it.
    @Test(arguments: [204_800, 1_024_000]) func everySNRHasItsCode(bits: Int) throws {
        for k in 0...60 {
            let rate = 0.0201 * pow(10, Double(k) / 60)
            let snr = exp2(2 * rate / 0.9) - 1
            let code = try #require(ReconciliationCode.bestFor(snr: snr, frameBits: bits, efficiency: 0.9))
            #expect((0.895...0.9 + 1e-9).contains(code.efficiency(snr: snr)), "\(code) at \(snr)")
            #expect(code.frameBits > bits / 2)
            let named = try ReconciliationCode.named(code.id)
            #expect(named == code && named.syndromeBits == code.syndromeBits)
        }
        #expect(ReconciliationCode.bestFor(snr: 0.02, frameBits: bits) == nil)
        #expect(ReconciliationCode.bestFor(snr: .nan) == nil)
        #expect(ReconciliationCode.bestFor(snr: 5, frameBits: bits)?.base == "r20-n\(bits)")
    }

    /// Degrees carry the threshold and the error floor: core columns have 2 or 3 core checks; core rows and LDGM rows are near-regular.
    @Test(arguments: ReconciliationCode.all) func degreesAreTheDesign(code: ReconciliationCode) {
        let graph = code.graph
        var core = [Int](repeating: 0, count: graph.coreColumns)
        var row = [Int](repeating: 0, count: graph.rows)
        for edge in graph.edges {
            row[edge.row] += 1
            if edge.row < graph.coreRows { core[edge.column] += 1 }
        }
        let two = core.prefix { $0 == 2 }.count
        #expect(core == (0..<graph.coreColumns).map { $0 < two ? 2 : 3 })
        for rows in [row.prefix(graph.coreRows), row.suffix(graph.rows - graph.coreRows)] {
            #expect((rows.max() ?? 9) - (rows.min() ?? 0) <= 1)
        }
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
