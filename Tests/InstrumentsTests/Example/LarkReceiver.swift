// A driver to copy: the HD-3 of a maker called Lark, which does not exist. It keeps to the instrument protocol but for three things:
// its shutter is a beam block, its local oscillator must be waited for, and it tells its efficiency in percent.
// docs/adding-a-device.md goes through this file.

import Instruments
import QKDModel

final class LarkReceiver: ForwardingReceiver {
    static let driver = Driver(
        folder: "Lark", maker: "Lark", model: "HD-3", role: .receiver, recording: "lark.transcript",
        open: { try await LarkReceiver($0) })

    let base: any QuantumReceiver
    private let clock: any Clock<Duration>

    init(_ context: ModuleContext) async throws {
        base = try await Modules.standardReceiver(context)
        clock = context.clock
    }

    func setShutter(closed: Bool) async throws { try await scpi.run("INPut:BEAM \(closed ? "BLOCked" : "OPEN")") }

    func setLocalOscillator(_ isOn: Bool) async throws {
        try await base.setLocalOscillator(isOn)
        while isOn, try await !scpi.boolean("INPut:LOSCillator:SETTled?") { try await clock.sleep(for: .milliseconds(50)) }
    }

    func efficiency() async throws -> (eta: Double, sigma: Double) {
        let percent = try await scpi.numbers("INPut:EFFiciency?", count: 2...2, in: 0...100)
        return (percent[0] / 100, percent[1] / 100)
    }
}
