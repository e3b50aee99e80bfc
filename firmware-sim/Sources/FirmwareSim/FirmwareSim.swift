// The far end of the wire: CV-QKD transmitters and receivers with their firmware, joined by simulated fibre.
//
// `TestbedConfiguration` is the testbed file, read and checked. `Device` is one instrument as a value: SCPI bytes in,
// answers out, status registers, calibration and acquisition, frames in a ring; it does no I/O and reads no clock.
// `Testbed` holds all devices and the light between them and moves device time forward in steps of 65,536 symbols:
// plan what every device produces in the step, let the kernels of QuantumOptics draw it (outside the lock, so that
// control never waits for symbols), put the frames into the rings. What a receiver reports is what the transmitter
// sent, through the channel. `EmulatorServer` offers the devices on TCP and pseudo-terminals and paces the testbed;
// `VirtualTestbed` drives the same testbed inside one process, without waiting.
//
// The wire is docs/wire/instrument-protocol.md, written here from the device's side only: no code is shared with the
// driver beyond QKDModel and QuantumOptics.

/// What can go wrong in the emulator itself. Devices never throw: they queue SCPI errors.
public enum FirmwareSimError: Error, Equatable, CustomStringConvertible {
    case unreadable(file: String, reason: String)
    case badTestbed(file: String, line: Int, key: String, reason: String)
    case noSuchDevice(serial: String, known: [String])
    case cannotListen(device: String, endpoint: String, reason: String)
    case refused(device: String, command: String, reason: String)

    public var description: String {
        switch self {
        case .unreadable(let file, let reason): "cannot read testbed '\(file)': \(reason)"
        case .badTestbed(let file, let line, let key, let reason): "\(file):\(line): '\(key)': \(reason)"
        case .noSuchDevice(let serial, let known): "no device '\(serial)' in this testbed; it has \(known.joined(separator: ", "))"
        case .cannotListen(let device, let endpoint, let reason): "device \(device) cannot be offered on \(endpoint): \(reason)"
        case .refused(let device, let command, let reason): "device \(device) refused '\(command)': \(reason)"
        }
    }
}
