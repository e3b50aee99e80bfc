internal import Glibc
internal import PostProcessingKernels
internal import Synchronization

/// An LDPC code of low rate for frames of `frameBits` quadratures.
///
/// The word's first `coreBits` bits determine the rest together with the syndrome. Rate = 1 - syndromeBits / frameBits.
///
/// A built-in code has steps: each leaves the next few LDGM rows out, the last ones first, so that the frame gets shorter and the rate higher
/// by about 1/400 of itself, with the same core and the same decoder. Both ends derive a step from its name.
public struct ReconciliationCode: Sendable, Identifiable, CustomStringConvertible {
    /// For instance "r10-n204800": rate in hundredths, then code bits; "r10-n204800+24" is 24 steps up.
    public let id: String
    /// Bits of the word = quadratures of a frame; a multiple of 512.
    public let frameBits: Int
    /// Bits that become raw key; a multiple of 64.
    public let coreBits: Int
    /// Bits disclosed by the syndrome; a multiple of 64.
    public let syndromeBits: Int
    /// Which built-in code this is a step of, and how many steps up.
    public let base: String
    public let step: Int
    /// Steps that the built-in code has.
    public let steps: Int
    /// Reconciliation efficiency at which the code was found to leave few frames undecoded (docs/reconciliation.md): what `bestFor`
    /// works with.
    public let operatingEfficiency: Double
    let table: CodeTable

    /// Symbols of a frame, two quadratures each.
    public var frameSymbols: Int { frameBits / 2 }
    public var rate: Double { Double(frameBits - syndromeBits) / Double(frameBits) }
    public var description: String { id }

    /// Bits that a verified frame has disclosed: syndrome and hash.
    public var disclosedBits: Int { syndromeBits + FrameMessage.verificationBits }

    /// The signal-to-noise ratio per quadrature at which the code works with reconciliation efficiency `beta`:
    /// rate = beta / 2 log2(1 + SNR).
    public func designSNR(efficiency beta: Double) -> Double { exp2(2 * rate / beta) - 1 }

    /// Efficiency of the code at a signal-to-noise ratio per quadrature.
    public func efficiency(snr: Double) -> Double { 2 * rate / log2(1 + snr) }

    /// The built-in codes, short frames before long ones, rates rising. Their steps are not listed.
    public static let all: [ReconciliationCode] = (0..<ldpc_code_count()).compactMap { open(index: $0, step: 0) }

    /// A built-in code or one of its steps.
    /// - Throws: `ReconciliationError.unknownCode`.
    public static func named(_ id: String) throws -> ReconciliationCode {
        let parts = id.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
        guard let index = all.firstIndex(where: { $0.id == parts[0] }) else { throw ReconciliationError.unknownCode(id) }
        if parts.count == 1 { return all[index] }
        // One spelling only: ids are compared.
        guard let step = Int32(parts[1]), step > 0, "\(step)" == parts[1],
            let code = CodeTables.shared.code(index: Int32(index), step: step)
        else {
            throw ReconciliationError.unknownCode(id)
        }
        return code
    }

    /// The code for a link: of all built-in codes with frames of about `frameBits` and their steps, the one of the highest rate
    /// whose efficiency at this signal-to-noise ratio is at most the one asked for.
    /// - Parameters:
    ///   - snr: per quadrature.
    ///   - frameBits: about 2e5 or 1e6; the nearer size is taken. Steps have somewhat shorter frames.
    ///   - efficiency: nil: each code's `operatingEfficiency`.
    /// - Returns: nil where even the lowest rate is too high.
    public static func bestFor(snr: Double, frameBits: Int = 204_800, efficiency: Double? = nil) -> ReconciliationCode? {
        guard snr.isFinite, snr > 0, frameBits > 0 else { return nil }
        let distance = { (code: ReconciliationCode) in abs(log2(Double(code.frameBits) / Double(frameBits))) }
        guard let size = all.min(by: { distance($0) < distance($1) })?.frameBits else { return nil }
        let fits = { (code: ReconciliationCode) in code.efficiency(snr: snr) <= (efficiency ?? code.operatingEfficiency) + 1e-9 }
        guard let index = all.lastIndex(where: { $0.frameBits == size && fits($0) }) else { return nil }
        // Rates rise with the steps: bisection for the last one that fits.
        var best = all[index]
        var (low, high) = (0, best.steps)
        while low < high {
            let middle = (low + high + 1) / 2
            guard let code = CodeTables.shared.code(index: Int32(index), step: Int32(middle)) else { break }
            if fits(code) { (low, best) = (middle, code) } else { high = middle - 1 }
        }
        return best
    }

    fileprivate static func open(index: Int32, step: Int32) -> ReconciliationCode? {
        CodeTable(index: index, step: step).map { ReconciliationCode($0, index: index, step: step) }
    }

    private init(_ table: CodeTable, index: Int32, step: Int32) {
        self.table = table
        id = String(cString: ldpc_code_id(table.code))
        base = id.split(separator: "+").first.map(String.init) ?? id
        self.step = Int(step)
        steps = Int(ldpc_code_steps(index))
        // Shorter frames and a rate farther from the one it was designed for cost a little.
        operatingEfficiency = ldpc_code_efficiency(index) - (steps > 0 ? 0.012 * Double(step) / Double(steps) : 0)
        frameBits = ldpc_code_bits(table.code)
        coreBits = ldpc_core_bits(table.code)
        syndromeBits = ldpc_syndrome_bits(table.code)
    }
}

/// Steps that were opened, kept: a link opens the same few again and again.
private final class CodeTables: Sendable {
    static let shared = CodeTables()
    private let opened = Mutex<[String: ReconciliationCode]>([:])

    func code(index: Int32, step: Int32) -> ReconciliationCode? {
        let key = "\(index)+\(step)"
        if let code = opened.withLock({ $0[key] }) { return code }
        guard let code = ReconciliationCode.open(index: index, step: step) else { return nil }
        opened.withLock { $0[key] = code }
        return code
    }
}

extension ReconciliationCode: Equatable {
    public static func == (a: ReconciliationCode, b: ReconciliationCode) -> Bool { a.id == b.id }
}

/// Owner of an expanded code; never changes after it is made.
final class CodeTable: @unchecked Sendable {
    let code: OpaquePointer

    init?(index: Int32, step: Int32) {
        guard let code = ldpc_code_open(index, step) else { return nil }
        self.code = code
    }

    deinit { ldpc_code_close(code) }
}

extension ReconciliationCode {
    /// Word (frameBits / 64 words) to syndrome (syndromeBits / 64 words).
    func syndrome(of word: UnsafePointer<UInt64>, into syndrome: UnsafeMutablePointer<UInt64>) {
        ldpc_syndrome(table.code, word, syndrome)
    }

    /// Brings the word's 64-bit words into the order in which they travel as planes of the rotations.
    func planes(of word: UnsafePointer<UInt64>, into planes: UnsafeMutablePointer<UInt64>) {
        guard let order = ldpc_plane_order(table.code) else { return }
        for plane in 0..<frameBits / 64 { planes[plane] = word[Int(order[plane])] }
    }

    /// An edge of the code's graph: row, column of the core, lane shift, block shift. For whoever checks the graph from outside.
    package struct Edge: Hashable, Sendable { package var row: Int, column: Int, lane: Int, block: Int }

    /// The graph: core rows come first; row `coreRows + r` also has column `coreColumns + r`, without shifts.
    package var graph: (coreColumns: Int, coreRows: Int, rows: Int, blocks: Int, edges: [Edge]) {
        var edges: [Edge] = []
        var triple: (Int32, Int32, Int32) = (0, 0, 0)
        for row in 0..<ldpc_rows(table.code) {
            for edge in 0..<ldpc_row_degree(table.code, row) {
                withUnsafeMutableBytes(of: &triple) {
                    ldpc_row_edge(table.code, row, edge, $0.assumingMemoryBound(to: Int32.self).baseAddress)
                }
                edges.append(Edge(row: Int(row), column: Int(triple.0), lane: Int(triple.1), block: Int(triple.2)))
            }
        }
        return (
            Int(ldpc_core_columns(table.code)), Int(ldpc_core_rows(table.code)), Int(ldpc_rows(table.code)),
            Int(ldpc_blocks(table.code)), edges
        )
    }

    /// The fixed interleaver: which word of the code travels as which plane.
    package var planeOrder: [Int] {
        guard let order = ldpc_plane_order(table.code) else { return [] }
        return (0..<frameBits / 64).map { Int(order[$0]) }
    }

    /// Syndrome of packed words, for tests.
    package func syndrome(word: [UInt64]) -> [UInt64] {
        var result = [UInt64](repeating: 0, count: syndromeBits / 64)
        guard word.count * 64 == frameBits else { return [] }
        result.withUnsafeMutableBufferPointer { out in
            word.withUnsafeBufferPointer { if let w = $0.baseAddress, let s = out.baseAddress { syndrome(of: w, into: s) } }
        }
        return result
    }
}
