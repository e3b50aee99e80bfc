// Devices that keep to docs/wire/instrument-protocol.md and nothing else: what both roles share.

import QKDModel
import Synchronization
import Transport

/// A device spoken to by the instrument protocol, version 1. Its roles add their own commands.
class StandardModule: @unchecked Sendable {
    // Immutable but for `stream`, which has its lock.

    let identity: ModuleIdentity
    let role: DeviceRole
    let isEmulated: Bool
    let capabilities: ModuleCapabilities
    let scpi: SCPISession
    private let context: ModuleContext
    private let stream = Mutex<WeakStream>(WeakStream())
    /// Looks after the end of what runs.
    private let tail = Mutex<Task<Void, Never>?>(nil)

    private struct WeakStream {
        weak var source: (any SymbolSource)?
    }

    var address: String { context.address?.description ?? scpi.line.address }

    init(_ context: ModuleContext, role: DeviceRole) async throws {
        self.context = context
        identity = context.identity
        scpi = context.scpi
        self.role = try await scpi.word("SYSTem:ROLE?")
        guard self.role == role else {
            throw InstrumentError.wrongRole(serial: identity.serial.rawValue, wanted: role.rawValue.lowercased())
        }
        isEmulated = try await scpi.boolean("SYSTem:EMULated?")
        capabilities = try await Self.capabilities(scpi)
    }

    private static func capabilities(_ scpi: SCPISession) async throws -> ModuleCapabilities {
        let block = try await scpi.numbers("SYSTem:CAPability:BLOCk?", count: 2...2, in: 1...1e9)
        return ModuleCapabilities(
            symbolRates: try await scpi.numbers("SYSTem:CAPability:SRATe?", count: 1...64, in: 1...1e12),
            modulations: try await scpi.fields("SYSTem:CAPability:MODulation?", count: 1...64),
            wavelengths: try await scpi.numbers("SYSTem:CAPability:WAVelength?", count: 2...2, in: 100...10_000),
            paths: try await scpi.fields("SYSTem:CAPability:PATHs?", count: 1...1024),
            calibrations: try await calibrations(scpi),
            symbolsPerFrame: Int(block[0]), framesInRing: Int(block[1]))
    }

    private static func calibrations(_ scpi: SCPISession) async throws -> [ModuleCapabilities.Calibration] {
        let query = "SYSTem:CAPability:CALibration?"
        let fields = try await scpi.fields(query, count: 4...64)
        return try stride(from: 0, to: fields.count, by: 4).map { start in
            guard start + 4 <= fields.count, let kind = CalibrationKind(rawValue: fields[start].uppercased()),
                let symbols = Double(fields[start + 1]), (0...1e15).contains(symbols),
                let duration = Double(fields[start + 2]), let validity = Double(fields[start + 3])
            else {
                throw InstrumentError.unexpectedAnswer(
                    query: query, answer: excerpt(fields.joined(separator: ",")), wanted: "<kind>,<symbols>,<duration>,<validity> in turn")
            }
            return .init(kind: kind, symbols: Int(symbols), duration: duration, validity: validity)
        }
    }

    // MARK: Status and lock

    func status() async throws -> ModuleStatus {
        ModuleStatus(
            phase: try await scpi.word("SYSTem:STATe?"),
            operation: .init(rawValue: try await scpi.integer("STATus:OPERation:CONDition?", in: 0...0x7FFF)),
            questionable: .init(rawValue: try await scpi.integer("STATus:QUEStionable:CONDition?", in: 0...0x7FFF)),
            deviceTime: try await scpi.integer("SYSTem:TIME?", in: 0...UInt64.max),
            overruns: try await scpi.integer("ACQuire:OVERrun?", in: 0...UInt64.max))
    }

    func claim() async throws -> Bool { try await scpi.boolean("SYSTem:LOCK:REQuest?") }
    func giveBack() async throws { try await scpi.run("SYSTem:LOCK:RELease") }

    // MARK: Symbol rate

    func symbolRate() async throws -> Double { try await scpi.number("ACQuire:SRATe?", in: 1...1e12) }

    func setSymbolRate(_ hertz: Double) async throws {
        guard capabilities.symbolRates.contains(hertz) else {
            throw InstrumentError.outOfRange(
                what: "symbol rate", value: "\(hertz)", allowed: capabilities.symbolRates.map { "\($0)" }.joined(separator: ", "))
        }
        try checkLine(hertz)
        try await scpi.run("ACQuire:SRATe \(hertz)")
    }

    /// Symbols are four bytes; the rest of the line is for headers and commands.
    private func checkLine(_ hertz: Double) throws {
        guard let carries = scpi.line.bytesPerSecond else { return }
        let header = Double(FrameHeader.bytes + 96) / Double(capabilities.symbolsPerFrame)
        let needed = Int(hertz * (4 + header)) + 500
        guard needed <= carries else { throw InstrumentError.lineTooSlow(symbolRate: hertz, needed: needed, carries: carries) }
    }

    // MARK: Calibration

    func startCalibration(_ kind: CalibrationKind, symbols: Int?) async throws {
        guard capabilities.calibrations.contains(where: { $0.kind == kind }) else {
            throw InstrumentError.outOfRange(
                what: "calibration", value: kind.rawValue, allowed: capabilities.calibrations.map(\.kind.rawValue).joined(separator: ", "))
        }
        if kind.frames != nil { try await checkThroughput() }
        try await beginStream()
        try await scpi.run("CALibration:STARt \(kind.rawValue)" + (symbols.map { ",\($0)" } ?? ""))
        if kind.frames != nil { watchTail("CALibration:STATe?") }
    }

    func abortCalibration() async throws { try await scpi.run("CALibration:ABORt") }

    func calibrationProgress() async throws -> (running: CalibrationKind?, progress: Double) {
        let state = try await scpi.text("CALibration:STATe?")
        let progress = try await scpi.number("CALibration:PROGress?", in: 0...1)
        return (CalibrationKind(rawValue: state.uppercased()), progress)
    }

    func calibration(_ kind: CalibrationKind) async throws -> CalibrationRecord {
        let age = try await scpi.number("CALibration:AGE? \(kind.rawValue)", in: -1...1e12)
        return CalibrationRecord(
            kind: kind, result: try await scpi.word("CALibration:RESult? \(kind.rawValue)"), age: age < 0 ? nil : age,
            isValid: try await scpi.boolean("CALibration:VALid? \(kind.rawValue)"),
            validity: try await scpi.number("CALibration:VALidity? \(kind.rawValue)", in: 0...1e12))
    }

    // MARK: Acquisition

    func openStream() async throws -> any SymbolSource {
        let port: Int = try await scpi.integer("DATA:PORT?", in: 0...65535)
        let source: any SymbolSource
        if scpi.line.carriesSymbols {
            source = DataStream(depth: 8) { [scpi, frameBytes = FrameHeader.bytes + 4 * capabilities.symbolsPerFrame] in
                try await scpi.line.openData(token: Self.token(scpi), frameBytes: frameBytes)
            }
        } else if port > 0, case .tcp(let host, _)? = context.address {
            source = DataStream(depth: 8) { [scpi, options = context.options] in
                let token = try await Self.token(scpi)
                return try await DataConnection.open(host: host, port: port, token: token, options: options)
            }
        } else {
            source = FetchStream(scpi, clock: context.clock, pause: .milliseconds(20), deadline: try await fetchDeadline())
        }
        let previous = stream.withLock { stream in
            defer { stream.source = source }
            return stream.source
        }
        previous?.close()
        return source
    }

    private func fetchDeadline() async throws -> Duration {
        guard let carries = scpi.line.bytesPerSecond else { return scpi.line.deadline }
        return scpi.line.deadline + .seconds(2 * Double(4 * capabilities.symbolsPerFrame) / Double(carries))
    }

    private static func token(_ scpi: SCPISession) async throws -> [UInt8] {
        let answer = try await scpi.text("DATA:TOKen?")
        let digits = answer.compactMap { $0.hexDigitValue.map(UInt8.init) }
        guard digits.count == 32, answer.count == 32 else {
            throw InstrumentError.unexpectedAnswer(
                query: "DATA:TOKen?", answer: "\(answer.count) characters", wanted: "32 hexadecimal digits")
        }
        return stride(from: 0, to: 32, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    func checkThroughput() async throws { try checkLine(try await symbolRate()) }

    func startAcquisition(frames: Int?) async throws {
        try await checkThroughput()
        try await beginStream()
        try await scpi.run("ACQuire:STARt" + (frames.map { " \($0)" } ?? ""))
        if frames != nil { watchTail("ACQuire:STATe?") }
    }

    func stopAcquisition() async throws {
        try await scpi.run("ACQuire:STOP")
        // It stops after the current frame; only then is the last number known.
        while try await scpi.text("ACQuire:STATe?").uppercased() != "IDLE" { try await context.clock.sleep(for: .milliseconds(10)) }
        let next = try await nextFrame()
        withStream { $0.end(at: next) }
        watchTail("ACQuire:STATe?")
    }

    /// A full ring loses its newest frames, and the last ones of an acquisition without a trace: no frame behind them tells of the gap.
    /// So once the device is idle and its ring is empty, whoever still waits for frames is told that they are lost.
    private func watchTail(_ query: String) {
        guard stream.withLock({ $0.source != nil }) else { return }
        let task = Task { [weak self, clock = context.clock] in
            while (try? await clock.sleep(for: .milliseconds(500))) != nil {
                guard let self, await !self.settleTail(query) else { return }
            }
        }
        tail.withLock { tail in
            tail?.cancel()
            tail = task
        }
    }

    /// - Returns: whether there is nothing more to watch.
    private func settleTail(_ query: String) async -> Bool {
        guard stream.withLock({ $0.source != nil }) else { return true }
        do {
            guard try await scpi.text(query).uppercased() == "IDLE" else { return false }
            let ring = try await scpi.numbers("ACQuire:AVAilable?", count: 2...2, in: 0...0x1p53)
            guard ring[0] >= ring[1] else { return false }
            withStream { $0.cutShort(at: UInt64(ring[1])) }
            return true
        } catch TransportError.timedOut {
            return false
        } catch {
            return true
        }
    }

    private func nextFrame() async throws -> UInt64 {
        UInt64(try await scpi.numbers("ACQuire:AVAilable?", count: 2...2, in: 0...0x1p53)[1])
    }

    /// What is in the ring before something starts belongs to something else.
    private func beginStream() async throws {
        guard stream.withLock({ $0.source != nil }) else { return }
        let next = try await nextFrame()
        withStream { $0.begin(at: next) }
    }

    private func withStream(_ body: (any SymbolSource) -> Void) {
        if let source = stream.withLock({ $0.source }) { body(source) }
    }

    // MARK: Diagnostics

    func spectrum(from start: Double, to stop: Double, points: Int) async throws -> Spectrum {
        guard (2...100_000).contains(points), start < stop else {
            throw InstrumentError.outOfRange(
                what: "spectrum", value: "\(start) to \(stop) nm in \(points) points", allowed: "start < stop and 2 to 100000 points")
        }
        let query = "DIAGnostic:OSA? \(start),\(stop),\(points)"
        let powers = try await scpi.floats(query, maximum: points)
        guard powers.count == points else {
            throw InstrumentError.unexpectedAnswer(query: query, answer: "\(powers.count) powers", wanted: "\(points)")
        }
        return Spectrum(start: start, stop: stop, powers: powers)
    }

    func reflectometry() async throws -> Reflectometry {
        let values = try await scpi.floats("DIAGnostic:OTDR?", maximum: 1 << 20)
        guard values.count.isMultiple(of: 2) else {
            throw InstrumentError.unexpectedAnswer(query: "DIAGnostic:OTDR?", answer: "\(values.count) numbers", wanted: "pairs")
        }
        return Reflectometry(points: stride(from: 0, to: values.count, by: 2).map { .init(distance: values[$0], level: values[$0 + 1]) })
    }

    func temperatures() async throws -> [Double] { try await scpi.numbers("DIAGnostic:TEMPerature?", count: 1...64, in: -273...1000) }
    func phaseVariance() async throws -> Double { try await scpi.number("DIAGnostic:PHASe:VARiance?", in: 0...100) }
    func opticalPower() async throws -> Double { try await scpi.number("DIAGnostic:OPTical:POWer?", in: -300...100) }

    func close() {
        tail.withLock { $0?.cancel() }
        withStream { $0.close() }
        scpi.line.close()
    }
}
