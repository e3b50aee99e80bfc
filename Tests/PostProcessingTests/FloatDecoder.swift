import Foundation
import PostProcessingKernels

/// Layered sum-product decoding in double precision, by the textbook's rule, from nothing but the code's graph: what the integer kernels
/// are compared with. The order of rows is theirs, so that posteriors may be compared pass by pass.
struct FloatDecoder {
    private struct Edge { var column: Int, lane: Int, block: Int }

    private let blocks: Int
    private let coreRows: Int
    private let coreBits: Int
    private let rows: [[Edge]]
    private let order: [Int]

    private var posterior: [Double] = []
    private var messages: [[Double]] = []
    /// tanh(LLR / 2) of the LDGM rows' own bits, 1 for core rows; with the syndrome's sign.
    private var own: [Double] = []

    init(code: OpaquePointer) {
        let blocks = Int(ldpc_blocks(code))
        self.blocks = blocks
        coreRows = Int(ldpc_core_rows(code))
        coreBits = ldpc_core_bits(code)
        rows = (0..<ldpc_rows(code)).map { row in
            (0..<ldpc_row_degree(code, row)).map { edge in
                var triple: [Int32] = [0, 0, 0]
                ldpc_row_edge(code, row, edge, &triple)
                return Edge(column: Int(triple[0]), lane: Int(triple[1]), block: Int(triple[2]))
            }
        }
        let planes = ldpc_code_bits(code) / 64
        order = (0..<planes).map { plane in ldpc_plane_order(code).map { Int($0[plane]) } ?? plane }
    }

    /// Takes a frame in. - Parameter llr: in plane order.
    mutating func begin(llr: [Float], syndrome: [UInt64]) {
        var values = [Double](repeating: 0, count: llr.count)
        for (plane, word) in order.enumerated() {
            for lane in 0..<64 { values[64 * word + lane] = Double(llr[64 * plane + lane]) }
        }
        posterior = Array(values.prefix(coreBits))
        messages = rows.map { [Double](repeating: 0, count: $0.count * blocks * 64) }
        own = (0..<rows.count * blocks * 64).map { check in
            let sign = syndrome[check / 64] >> UInt64(check % 64) & 1 == 0 ? 1.0 : -1.0
            let first = coreRows * blocks * 64
            return check < first ? sign : sign * tanh(values[coreBits + check - first] / 2)
        }
    }

    /// Core bits that the posteriors stand for.
    var decisions: [UInt64] {
        stride(from: 0, to: coreBits, by: 64).map { start in
            (0..<64).reduce(UInt64(0)) { $0 | (posterior[start + $1] < 0 ? 1 : 0) << UInt64($1) }
        }
    }

    /// Goes on for at most `passes` passes. - Returns: how many, and whether every core check holds.
    mutating func run(passes: Int) -> (converged: Bool, passes: Int) {
        let checks = coreRows * blocks * 64
        var last = checks
        for pass in 0..<passes {
            let parts = last * 4 < checks ? 2 : 1
            for part in 0..<parts {
                (0..<coreRows).forEach { update(row: $0) }
                let failing = failingChecks()
                if part == 0 { last = failing }
                if part == 0, failing == 0 { return (true, pass) }
                let ldgm = rows.count - coreRows
                for row in coreRows + ldgm * part / parts..<coreRows + ldgm * (part + 1) / parts { update(row: row) }
            }
        }
        return (failingChecks() == 0, passes)
    }

    private func failingChecks() -> Int {
        (0..<coreRows).reduce(0) { count, row in
            count
                + (0..<blocks * 64).reduce(0) { failing, check in
                    let odd = rows[row].reduce(own[row * blocks * 64 + check] < 0) { $0 != (posterior[bit($1, check)] < 0) }
                    return failing + (odd ? 1 : 0)
                }
        }
    }

    private func bit(_ edge: Edge, _ check: Int) -> Int {
        let block = check / 64 + edge.block
        return (edge.column * blocks + (block < blocks ? block : block - blocks)) * 64 + (check + edge.lane) % 64
    }

    private mutating func update(row: Int) {
        let (edges, blocks) = (rows[row], blocks)
        let (degree, first) = (edges.count, row * blocks * 64)
        own.withUnsafeBufferPointer { own in
            messages[row].withUnsafeMutableBufferPointer { messages in
                posterior.withUnsafeMutableBufferPointer { posterior in
                    var (tanhs, befores, bits) = (
                        [Double](repeating: 0, count: degree), [Double](repeating: 0, count: degree), [Int](repeating: 0, count: degree)
                    )
                    for check in 0..<blocks * 64 {
                        var before = own[first + check]
                        for (j, edge) in edges.enumerated() {
                            let block = check / 64 + edge.block
                            bits[j] = (edge.column * blocks + (block < blocks ? block : block - blocks)) * 64 + (check + edge.lane) % 64
                            tanhs[j] = tanh((posterior[bits[j]] - messages[check * degree + j]) / 2)
                            befores[j] = before
                            before *= tanhs[j]
                        }
                        var after = 1.0
                        for j in (0..<degree).reversed() {
                            let product = max(-1 + 1e-14, min(1 - 1e-14, befores[j] * after))
                            let message = log((1 + product) / (1 - product))
                            posterior[bits[j]] += message - messages[check * degree + j]
                            messages[check * degree + j] = message
                            after *= tanhs[j]
                        }
                    }
                }
            }
        }
    }
}
