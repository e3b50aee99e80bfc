// How fast it is.

import Foundation
import Instruments
import QKDModel
import Transport

enum Figures {
    static func stream(_ address: String, seconds: Double) async throws {
        let module = try await Modules.open(uri: address)
        defer { module.close() }
        let end = ContinuousClock.now + .seconds(20)
        while try await module.status().phase != .idle {
            try require(.now < end, "the device does not warm up")
            try await Task.sleep(for: .milliseconds(20))
        }
        if let rate = module.capabilities.symbolRates.max() { try? await module.setSymbolRate(rate) }
        let stream = try await module.openStream()
        if module.role == .receiver {
            try await module.startCalibration(.dark, symbols: 1 << 30)
        } else {
            try await module.startAcquisition()
        }
        _ = try await Sessions.next(stream)
        let before = stream.statistics.bytes
        let start = ContinuousClock.now
        // One for all frames: a task and a timer for each would be measured too.
        let guardian = Task {
            try await Task.sleep(for: .seconds(seconds + 20))
            stream.close()
        }
        defer { guardian.cancel() }
        while ContinuousClock.now - start < .seconds(seconds) {
            guard let frame = try await stream.next() else { throw Wrong("the stream stands still") }
            try await stream.release(through: frame.number)
        }
        let took = (ContinuousClock.now - start) / .seconds(1)
        say("megabytes_per_second", Double(stream.statistics.bytes - before) / 1e6 / took)
        say("lost_frames", stream.statistics.lost)
        if module.role == .receiver { try await module.abortCalibration() } else { try? await module.stopAcquisition() }
    }

    static func trips(_ address: String, seconds: Double) async throws {
        let session = try await InstrumentSession.open(Address(address))
        defer { session.close() }
        var count = 0
        let start = ContinuousClock.now
        while ContinuousClock.now - start < .seconds(seconds) {
            _ = try await session.ask("*ESE?")
            count += 1
        }
        say("round_trips_per_second", Double(count) / ((ContinuousClock.now - start) / .seconds(1)))
    }
}
