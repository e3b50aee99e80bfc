// Whole blocks through both ends over a synthetic channel.

import Foundation
import KeyMaterial
import QKDModel
import QuantumLink
import Testing

@Suite("Distillation", .serialized)
struct DistillationTests {
    @Test("Both ends hold the same key, block after block")
    func equalKeys() async throws {
        let bench = try LinkBench()
        let ends = await bench.run { $0.blocksDeposited >= 3 && $1.blocksDeposited >= 3 }
        let left = try bench.transmitter.keys()
        let right = try bench.receiver.keys()
        for block in bench.transmitter.context.monitor.blocks { print("block", block) }
        print("ends", ends, bench.receiver.context.monitor.snapshot)
        #expect(left.count >= 3)
        for (a, b) in zip(left, right) {
            #expect(a.block == b.block)
            #expect(a.key.matches(b.key))
            #expect(a.key.count > 1000)
        }
    }
}
