// Whole sessions: what a link service does with a device between opening and closing it.

import Foundation
import Instruments
import QKDModel
import Transport

enum Sessions {
    static let frames = 12

    /// Opens a device, runs a calibration or an acquisition, reads frames in order, stops and closes.
    static func run(_ serial: String) async throws -> (frames: Int, bytes: UInt64) {
        let module = try await Modules.open(uri: "usb:\(serial)", options: OpenOptions(deadline: .seconds(4)))
        defer { module.close() }
        let end = ContinuousClock.now + .seconds(20)
        while try await module.status().phase != .idle {
            try require(.now < end, "the device does not warm up")
            try await Task.sleep(for: .milliseconds(20))
        }
        guard try await module.claim() else { throw Wrong("the device's lock is taken") }
        let stream = try await module.openStream()
        defer { stream.close() }
        var taken = 0
        if module.role == .receiver {
            try await module.startCalibration(.dark, symbols: frames * module.capabilities.symbolsPerFrame)
        } else {
            try await module.startAcquisition()
        }
        var expected: UInt64?
        while taken < frames {
            guard let frame = try await next(stream) else { break }
            if let expected { try require(frame.number == expected, "frame \(frame.number) where \(expected) was due") }
            expected = frame.number + 1
            taken += 1
            try await stream.release(through: frame.number)
        }
        try require(taken == frames, "\(taken) frames of \(frames)")
        if module.role == .transmitter { try await module.stopAcquisition() }
        let bytes = stream.statistics.bytes
        try await module.giveBack()
        return (taken, bytes)
    }

    /// The next frame, or an error after ten seconds.
    static func next(_ stream: any SymbolSource) async throws -> SymbolFrame? {
        try await withThrowingTaskGroup(of: SymbolFrame?.self) { group in
            group.addTask { try await stream.next() }
            group.addTask {
                try await Task.sleep(for: .seconds(10))
                throw Wrong("no frame within ten seconds")
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }

    static func whole(_ serial: String) async throws {
        let (frames, bytes) = try await run(serial)
        say("frames", frames)
        say("bytes", bytes)
    }

    static func two(_ first: String, _ second: String) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for serial in [first, second] {
                group.addTask {
                    let module = try await Modules.open(uri: "usb:\(serial)")
                    let found = module.identity.serial.rawValue
                    module.close()
                    try require(found == serial, "\(serial) answers as \(found)")
                    for _ in 0..<3 { _ = try await run(serial) }
                }
            }
            try await group.waitForAll()
        }
    }

    static func refused(_ serial: String, word: String) async throws {
        do {
            try await InstrumentSession.open(Address("usb:\(serial)"), options: OpenOptions(deadline: .seconds(3))).close()
        } catch {
            say("refused", error)
            return try require("\(error)".contains(word), "the error does not say '\(word)'")
        }
        throw Wrong("usb:\(serial) was opened")
    }

    static func strangers(_ serial: String) async throws {
        try Bridge.must("stranger")
        let listed = try AttachedDevices.list().map(\.serial)
        try require(listed.contains(serial) && !listed.contains("STRANGER"), "listed are \(listed)")
        _ = try await run(serial)
        do {
            try await InstrumentSession.open(Address("usb:STRANGER"), options: OpenOptions(deadline: .seconds(1))).close()
            throw Wrong("a stranger's adapter was opened")
        } catch TransportError.notFound {}
        try require(try Bridge.tell("opened") == "0", "a stranger's adapter was spoken to")
    }

    static func hold(_ serial: String, milliseconds: Int) async throws {
        let session = try await InstrumentSession.open(Address("usb:\(serial)"))
        defer { session.close() }
        say("holding", try await session.ask("*IDN?"))
        try await Task.sleep(for: .milliseconds(milliseconds))
        _ = try await session.ask("*IDN?")
    }

    static func driver(_ serial: String) async throws {
        try require(try Bridge.state(0, "driver") == "usbtmc", "the kernel has no driver bound to begin with")
        let session = try await InstrumentSession.open(Address("usb:\(serial)"))
        _ = try await session.ask("*IDN?")
        try require(try Bridge.state(0, "driver") == "-" && Bridge.state(0, "claims") == "2", "the interfaces are not claimed")
        session.close()
        let end = ContinuousClock.now + .seconds(2)
        while try Bridge.state(0, "claims") != "0", ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(10)) }
        try require(try Bridge.state(0, "claims") == "0", "the interfaces are still claimed")
        try require(try Bridge.state(0, "driver") == "usbtmc", "the kernel's driver was not bound again")
    }
}
