// All devices and the light between them, as a value: commands in, actions out, time in steps.

internal import QKDModel
internal import QuantumOptics

/// Something that a device wants done.
struct AddressedAction: Sendable {
    var device: Int
    var action: DeviceAction
}

struct TestbedCore {
    /// Symbols per step at the testbed's highest rate.
    static let stepSymbols: UInt64 = 65_536

    let configuration: TestbedConfiguration
    var devices: [Device]
    private(set) var step: UInt64 = 0
    private var timeline: [TimelineEntry]
    private var feeds: [Feed] = []

    /// A transmitter's path that ends at a receiver.
    private struct Feed {
        var receiver: Int
        var transmitter: Int
        var path: Int
    }

    init(_ configuration: TestbedConfiguration, pace: String, utcStart: UInt64? = nil) {
        self.configuration = configuration
        timeline = configuration.timeline.sorted { $0.atS < $1.atS }
        let start = utcStart ?? configuration.utcStartS * 1_000_000_000
        devices = configuration.devices.map { device in
            Device(
                setting: DeviceSetting(
                    configuration: device, seed: configuration.seed, baseRateHz: configuration.symbolRateHz, utcStart: start,
                    paths: configuration.optics(of: device), plan: configuration.plan, pace: pace))
        }
        for (receiver, device) in configuration.devices.enumerated() where device.role == .receiver {
            for (transmitter, source) in configuration.devices.enumerated() {
                guard let path = source.transmitter.paths.firstIndex(where: { $0.receiver == device.serial.rawValue }) else { continue }
                feeds.append(Feed(receiver: receiver, transmitter: transmitter, path: path))
                break
            }
        }
        spreadLight(moment(wall: 0))
    }

    /// ns of testbed time at the start of the coming step.
    var time: UInt64 { Self.time(step: step, rate: UInt64(configuration.symbolRateHz)) }
    /// ns of device time per step.
    var stepDuration: UInt64 { Self.stepSymbols * 1_000_000_000 / UInt64(configuration.symbolRateHz) }
    func moment(wall: UInt64) -> Moment { Moment(time: time, wall: wall) }

    private static func time(step: UInt64, rate: UInt64) -> UInt64 {
        let (whole, rest) = (step * stepSymbols).quotientAndRemainder(dividingBy: rate)
        return whole * 1_000_000_000 + rest * 1_000_000_000 / rate
    }

    // MARK: - Steps

    /// Decides what every device produces in the coming step.
    mutating func plan(wall: UInt64) -> [Production?] {
        let now = moment(wall: wall)
        spreadLight(now)
        return devices.indices.map { index in
            guard devices[index].producer != nil else { return nil }
            return devices[index].plan(symbols(atRate: devices[index].symbolRateHz), now)
        }
    }

    /// Takes what was drawn, moves time on and lets the devices notice.
    mutating func commit(_ productions: [Production?], wall: UInt64) -> [AddressedAction] {
        step += 1
        let now = moment(wall: wall)
        for (index, production) in productions.enumerated() {
            if let production { devices[index].commit(production, now) }
        }
        var actions = strikeDue(now)
        spreadLight(now)
        for index in devices.indices {
            actions += devices[index].tick(now).map { AddressedAction(device: index, action: $0) }
        }
        return actions
    }

    /// The symbols of a rate that fall into the coming step.
    private func symbols(atRate rate: Int) -> Range<UInt64> {
        let divisor = UInt64(configuration.symbolRateHz / rate)
        func bound(_ step: UInt64) -> UInt64 { (step * Self.stepSymbols + divisor - 1) / divisor }
        return bound(step)..<bound(step + 1)
    }

    private mutating func strikeDue(_ now: Moment) -> [AddressedAction] {
        var actions: [AddressedAction] = []
        while let event = timeline.first, event.atS * 1e9 <= Double(now.time) {
            timeline.removeFirst()
            guard let index = configuration.devices.firstIndex(where: { $0.serial.rawValue == event.device }) else { continue }
            actions += devices[index].strike(event.fault, value: event.value, seconds: event.forS, now)
                .map { AddressedAction(device: index, action: $0) }
        }
        return actions
    }

    /// What leaves the transmitters reaches the receivers.
    private mutating func spreadLight(_ now: Moment) {
        for feed in feeds { devices[feed.receiver].light = devices[feed.transmitter].launched(path: feed.path, now) }
    }

    // MARK: - Pace

    /// A device whose ring is full holds time back until its reader drains it, at most `patience` ns of wall time.
    /// - Returns: whether somebody is waited for.
    mutating func isHeldBack(wall: UInt64, patience: UInt64) -> Bool {
        var held = false
        for index in devices.indices {
            guard devices[index].producer != nil, devices[index].ring.isFull else {
                devices[index].fullSince = nil
                devices[index].stalled = false
                continue
            }
            let since = devices[index].fullSince ?? wall
            devices[index].fullSince = since
            if wall - min(since, wall) >= patience { devices[index].stalled = true }
            if !devices[index].stalled { held = true }
        }
        return held
    }

    /// A device is at something that only takes time: booting, warming up, switching, locking, a calibration, frames.
    var isAtWork: Bool {
        let now = moment(wall: 0)
        return devices.contains { $0.producer != nil || ![.idle, .fault].contains($0.state(now)) }
    }

    var isProducing: Bool { devices.contains { $0.producer != nil } }

    // MARK: - Data connections

    enum DataWelcome: UInt8 {
        case welcome = 0
        case badToken = 1
        case busy = 2
    }

    mutating func openData(device: Int, token: String, connection: Int) -> DataWelcome {
        guard devices[device].tokens[token] != nil else { return .badToken }
        guard devices[device].data == nil else { return .busy }
        devices[device].tokens[token] = nil
        devices[device].data = DataSession(connection: connection)
        return .welcome
    }

    mutating func closeData(device: Int, connection: Int) {
        if devices[device].data?.connection == connection { devices[device].data = nil }
    }

    mutating func dataMessage(device: Int, connection: Int, _ message: DataMessage) {
        guard devices[device].data?.connection == connection else { return }
        switch message {
        case .credit(let count): devices[device].data?.credits &+= UInt64(count)
        case .release(let number): devices[device].ring.release(through: number)
        case .seek(let number): devices[device].data?.next = number
        }
    }

    /// The next frame that the connection may have.
    mutating func nextFrame(device: Int, connection: Int) -> [UInt8]? {
        guard let session = devices[device].data, session.connection == connection, session.credits > 0 else { return nil }
        guard let frame = devices[device].ring.frame(from: session.next) else { return nil }
        devices[device].data?.credits -= 1
        devices[device].data?.next = frame.number + 1
        return devices[device].outgoing(frame)
    }
}

/// What the host says on a data connection.
enum DataMessage: Equatable {
    case credit(UInt32)
    case release(UInt64)
    case seek(UInt64)

    static let length = 16

    /// `nil` when the type is unknown.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.length else { return nil }
        func word(_ range: Range<Int>) -> UInt64 { range.reversed().reduce(0) { $0 << 8 | UInt64(bytes[$1]) } }
        switch word(0..<4) {
        case 1: self = .credit(UInt32(word(4..<8)))
        case 2: self = .release(word(8..<16))
        case 3: self = .seek(word(8..<16))
        default: return nil
        }
    }
}

extension TestbedConfiguration {
    /// The paths that a device sees: a transmitter's own, or the one that ends at a receiver.
    func optics(of device: DeviceConfiguration) -> [PathOptics] {
        let paths: [PathConfiguration]
        switch device.role {
        case .transmitter: paths = device.transmitter.paths
        case .receiver: paths = devices.flatMap(\.transmitter.paths).filter { $0.receiver == device.serial.rawValue }
        }
        return paths.map { path in
            let fibres = path.fibres.compactMap(fibre)
            var plan = self.plan
            let power = fibres.first?.classicalPowerDBm
            plan.channelPowerDBm = power ?? plan.channelPowerDBm
            return PathOptics(name: path.name, spans: fibres.flatMap(\.spans), plan: power == nil ? nil : plan, receiver: path.receiver)
        }
    }
}
