internal import Glibc
internal import PostProcessingKernels

/// An LDPC code of low rate for frames of `frameBits` quadratures.
///
/// The word's first `coreBits` bits determine the rest together with the syndrome. Rate = 1 - syndromeBits / frameBits.
public struct ReconciliationCode: Sendable, Identifiable, CustomStringConvertible {
    /// For instance "r10-n204800": rate in hundredths, then code bits.
    public let id: String
    /// Bits of the word = quadratures of a frame; a multiple of 512.
    public let frameBits: Int
    /// Bits that become raw key; a multiple of 64.
    public let coreBits: Int
    /// Bits disclosed by the syndrome; a multiple of 64.
    public let syndromeBits: Int
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

    /// The built-in codes.
    public static let all: [ReconciliationCode] = (0..<ldpc_code_count()).compactMap { CodeTable(index: $0) }.map(ReconciliationCode.init)

    /// - Throws: `ReconciliationError.unknownCode`.
    public static func named(_ id: String) throws -> ReconciliationCode {
        guard let code = all.first(where: { $0.id == id }) else { throw ReconciliationError.unknownCode(id) }
        return code
    }

    private init(_ table: CodeTable) {
        self.table = table
        id = String(cString: ldpc_code_id(table.code))
        frameBits = ldpc_code_bits(table.code)
        coreBits = ldpc_core_bits(table.code)
        syndromeBits = ldpc_syndrome_bits(table.code)
    }
}

extension ReconciliationCode: Equatable {
    public static func == (a: ReconciliationCode, b: ReconciliationCode) -> Bool { a.id == b.id }
}

/// Owner of an expanded code; never changes after it is made.
final class CodeTable: @unchecked Sendable {
    let code: OpaquePointer

    init?(index: Int32) {
        guard let code = ldpc_code_open(index) else { return nil }
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
