// The tools that labs already have drive the emulator: PyVISA over TCP and a serial line, lxi-tools over TCP.

import FirmwareSim
import Foundation
import Testing

struct Ended {
    var status: Int32
    var output: String
}

/// Runs a program to its end, both outputs together.
func run(_ program: String, _ arguments: [String]) async throws -> Ended {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.standardOutput = pipe
    process.standardError = pipe
    return try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async {
            do {
                try process.run()
                let data = pipe.fileHandleForReading.readDataToEndOfFile()
                process.waitUntilExit()
                continuation.resume(returning: Ended(status: process.terminationStatus, output: String(decoding: data, as: UTF8.self)))
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }
}

/// A Python that has the modules: the tests' own environment, or the machine's.
func python(with modules: String = "pyvisa, pyvisa_py, serial") async -> String? {
    for candidate in [ProcessInfo.processInfo.environment["QKD_PYTHON"], packageFolder + "/.venv/bin/python", "/usr/bin/python3"] {
        guard let candidate, FileManager.default.isExecutableFile(atPath: candidate) else { continue }
        if (try? await run(candidate, ["-c", "import \(modules)"]))?.status == 0 { return candidate }
    }
    return nil
}

@Suite(.serialized) struct ClientTests {
    private static let client = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("SystemTests/clients/visa_instrument.py").path

    private func uri(_ testbed: String, _ serial: String, _ body: (String) async throws -> Void) async throws {
        var configuration = try TestbedConfiguration(file: testbedFile(testbed))
        configuration.useAnyPorts()
        let server = try await EmulatorServer.start(configuration, pace: .follow(speed: 20))
        do {
            try await body(try #require(server.endpoints.first { $0.device == serial }?.uri))
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test(arguments: [("small", "SMALL-RX-1"), ("serial", "SERIAL-RX-1")])
    func pyvisa(testbed: String, serial: String) async throws {
        guard let python = await python() else {
            print("skipped: no Python with pyvisa, pyvisa-py and pyserial (make deps installs them)")
            return
        }
        try await uri(testbed, serial) { uri in
            let ended = try await run(python, [Self.client, uri])
            #expect(ended.status == 0, "\(ended.output)")
            #expect(ended.output.contains(serial))
        }
    }

    @Test func lxiTools() async throws {
        let lxi = "/usr/bin/lxi"
        guard FileManager.default.isExecutableFile(atPath: lxi) else {
            print("skipped: lxi-tools are not installed (make deps installs them)")
            return
        }
        try await uri("small", "SMALL-RX-1") { uri in
            let port = String(uri.split(separator: ":").last ?? "")
            let identity = try await run(lxi, ["scpi", "--address", "127.0.0.1", "--port", port, "--raw", "*IDN?"])
            #expect(identity.status == 0 && identity.output.contains("SDQKD,CVRX-1,SMALL-RX-1"), "\(identity.output)")
            let error = try await run(lxi, ["scpi", "--address", "127.0.0.1", "--port", port, "--raw", "SYSTem:ERRor?"])
            #expect(error.output.contains("0,\"No error\""), "\(error.output)")
        }
    }
}
