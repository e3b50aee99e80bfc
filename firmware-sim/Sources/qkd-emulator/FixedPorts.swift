// Ports that somebody chose: an emulator that is started again is found where it was.

internal import ArgumentParser
internal import FirmwareSim
internal import QKDModel

/// SERIAL=CONTROL,DATA
struct FixedPorts: ExpressibleByArgument {
    var serial: String
    var control: Int
    var data: Int

    init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        let ports = parts[1].split(separator: ",").map { UInt16($0) }
        guard ports.count == 2, let control = ports[0], let data = ports[1] else { return nil }
        (serial, self.control, self.data) = (String(parts[0]), Int(control), Int(data))
    }
}

extension TestbedConfiguration {
    /// Puts the first TCP endpoint of a device on given ports.
    mutating func use(_ ports: FixedPorts) throws {
        guard let device = devices.firstIndex(where: { $0.serial.rawValue == ports.serial }) else {
            throw FirmwareSimError.noSuchDevice(serial: ports.serial, known: devices.map(\.serial.rawValue))
        }
        for (index, endpoint) in devices[device].endpoints.enumerated() {
            guard case .tcp(let host, _, _) = endpoint else { continue }
            devices[device].endpoints[index] = .tcp(host: host, port: ports.control, dataPort: ports.data)
            return
        }
        throw FirmwareSimError.cannotListen(device: ports.serial, endpoint: "tcp", reason: "its testbed gives it no TCP endpoint")
    }
}
