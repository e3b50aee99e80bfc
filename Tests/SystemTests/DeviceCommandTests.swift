// `qkdctl device` against the emulator, and other people's packages on what it captures.

import Foundation
import Testing

/// The small testbed with its two devices.
private struct Bench {
    let emulator: Running
    let transmitter: String
    let receiver: String
    let folder: Scratch

    private struct Endpoint: Decodable {
        var role: String
        var uri: String
    }

    /// - Parameter speed: device time runs at most so many times faster than the wall clock.
    init(seed: Int = 1, speed: Int = 20) async throws {
        folder = try Scratch()
        emulator = try Running(
            [
                Programs.path("qkd-emulator"), "--testbed", Programs.root + "/firmware-sim/testbeds/small.yaml", "--json", "--any-ports",
                "--seed", "\(seed)", "--speed", "\(speed)",
            ])
        let emulator = emulator
        func endpoints() -> [Endpoint] {
            emulator.output.split(separator: "\n").compactMap { try? JSONDecoder().decode(Endpoint.self, from: Data($0.utf8)) }
        }
        try #require(await eventually(within: .seconds(20)) { endpoints().count == 2 }, "the emulator did not start: \(emulator.errors)")
        transmitter = try #require(endpoints().first { $0.role == "TRANSMITTER" }).uri
        receiver = try #require(endpoints().first { $0.role == "RECEIVER" }).uri
        for uri in [transmitter, receiver] {
            let isReady = try await eventually(within: .seconds(20)) {
                try await run("qkdctl", "device", uri, "status", "--json").output.contains("\"READY\"")
            }
            try #require(isReady, "\(uri) did not warm up")
        }
    }

    /// Sends lines to a device's console.
    func console(_ uri: String, _ lines: String...) async throws -> Outcome {
        let input = try folder.write(lines.joined(separator: "\n") + "\n\n", "input-\(UUID().uuidString)")
        return try await run("/bin/sh", "-c", "exec \"$0\" device \"$1\" console < \"$2\"", Programs.path("qkdctl"), uri, input)
    }
}

private func object(_ outcome: Outcome) throws -> [String: Any] {
    try #require(outcome.status == 0, "\(outcome)")
    return try #require(try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
}

@Suite(.timeLimit(.minutes(3))) struct DeviceCommandTests {
    @Test func identityStatusAndRefusals() async throws {
        let bench = try await Bench()
        let identity = try object(await run("qkdctl", "device", bench.receiver, "identify", "--json"))
        #expect(identity["role"] as? String == "RECEIVER" && identity["emulated"] as? Bool == true)
        let people = try await run("qkdctl", "device", bench.transmitter, "identify")
        #expect(people.status == 0 && people.output.contains("its keys are no secrets"))
        let unknown = try await run("qkdctl", "device", bench.receiver, "capture")
        #expect(unknown.status == 64 && unknown.errors.contains("--out"))
        let remote = try await run("qkdctl", "device", "tcp:192.0.2.1:5025", "identify")
        #expect(remote.status == 1 && remote.errors.contains("loopback"))
        let nobody = try await run("qkdctl", "device", "tcp:127.0.0.1:1", "identify")
        #expect(nobody.status == 1 && nobody.errors.contains("refused"))
    }

    @Test func consoleSpeaksToTheDevice() async throws {
        let bench = try await Bench()
        let said = try await bench.console(
            bench.receiver, "*IDN?", "NO:SUCH?", "INPut:LOSCillator:STATe ON", "INP:LOSC:STAT?", "DIAG:OTDR?")
        #expect(said.status == 0, "\(said)")
        let lines = said.output.split(separator: "\n")
        #expect(lines.count == 3 && lines[0].hasPrefix("SDQKD,") && lines[1] == "1" && lines[2].hasPrefix("block of "))
        #expect(said.errors.contains("-113"))
    }

    @Test func tracesAreDrawn() async throws {
        let bench = try await Bench()
        let drawn = try await run("qkdctl", "device", bench.receiver, "otdr")
        #expect(
            drawn.status == 0 && drawn.output.contains("distance [km]")
                && drawn.output.unicodeScalars.contains { (0x2801...0x28FF).contains($0.value) })
        let numbers = try object(await run("qkdctl", "device", bench.receiver, "spectrum", "--json", "--points", "101"))
        #expect((numbers["powers"] as? [Double])?.count == 101)
        for (name, magic) in [("s.svg", "<?xml"), ("s.png", "\u{89}PNG")] {
            let file = bench.folder.path + "/" + name
            let plotted = try await run("qkdctl", "device", bench.receiver, "spectrum", "--plot", file)
            if plotted.errors.contains("gnuplot is not installed") {
                print("skipped: gnuplot is not installed (make deps installs it)")
                return
            }
            #expect(plotted.status == 0, "\(plotted)")
            let start = try Data(contentsOf: URL(filePath: file)).prefix(magic.unicodeScalars.count)
            #expect(start.elementsEqual(magic.unicodeScalars.map { UInt8($0.value) }))
            // A file that is there stays, unless it is to go.
            let again = try await run("qkdctl", "device", bench.receiver, "otdr", "--plot", file)
            #expect(again.status == 1 && again.errors.contains("--force"))
            #expect(try await run("qkdctl", "device", bench.receiver, "otdr", "--plot", file, "--force").status == 0)
        }
        // A disk that takes nothing: no stub, and the system's own words.
        let full = try await run("qkdctl", "device", bench.receiver, "otdr", "--plot", "/proc/none.svg")
        #expect(full.status == 1 && full.errors.contains("cannot write") && !full.errors.contains("no reason"), "\(full)")
    }

    @Test func wrongArgumentsAndFullDisksAreTold() async throws {
        let bench = try await Bench()
        let path = bench.folder.path + "/x.qcap"
        for (arguments, word) in [
            (["capture", "--symbols", "9223372036854775807", "--out", path], "--symbols"),
            (["calibrate", "dark", "--symbols", "9223372036854775807"], "--symbols"),
            (["capture", "--variance", "2", "--out", path], "transmitters"),
            (["spectrum", "--points", "1"], "points"), (["console", "--json"], "--json"),
        ] {
            let refused = try await Running([Programs.path("qkdctl"), "device", bench.receiver] + arguments).end()
            #expect(refused.status == 64 && refused.errors.contains(word) && !refused.killed, "\(arguments): \(refused)")
        }
        #expect(try await run("qkdctl", "device", "tcp:nowhere", "identify").status == 64)
        #expect(try await run("qkdctl", "device", bench.transmitter, "capture", "--path", "MOON", "--out", path).status == 64)
        #expect(!FileManager.default.fileExists(atPath: path))
        for arguments in [["identify"], ["status", "--json"]] {
            let line = "exec \"$0\" device \"$@\" > /dev/full"
            let full = try await Running(["/bin/sh", "-c", line, Programs.path("qkdctl"), bench.receiver] + arguments).end()
            #expect(full.status == 1 && full.errors.contains("standard output"), "\(arguments): \(full)")
        }
    }

    /// What ends a capture too early: frames that are lost, a request to end, and a predecessor that was killed.
    @Test func capturesEndInOrder() async throws {
        let bench = try await Bench()
        func file(_ name: String) -> String { bench.folder.path + "/\(name).qcap" }
        #expect(try await bench.console(bench.receiver, "SIMulate:FAULt \"overrun\",3").status == 0)
        let lossy = try await run(
            "qkdctl", "device", bench.receiver, "capture", "--kind", "dark", "--symbols", "655360", "--json", "--out", file("lossy"),
            within: .seconds(20))
        #expect(lossy.status == 1 && lossy.errors.contains("3 of 10 frames were lost: 3 to overruns"), "\(lossy)")
        #expect(lossy.output.contains("\"lost_frames\" : 3") && lossy.output.contains("\"frames\" : 7"))
        for (number, name) in [(SIGTERM, "term"), (SIGHUP, "hup"), (SIGKILL, "kill")] {
            let capture = try Running([
                Programs.path("qkdctl"), "device", bench.transmitter, "capture", "--symbols", "100000000000", "--out", file(name),
            ])
            func size() -> Int { (try? FileManager.default.attributesOfItem(atPath: file(name))[.size] as? Int) ?? 0 }
            try #require(await eventually(within: .seconds(20), every: .milliseconds(10)) { size() > 1 << 20 }, "\(capture.errors)")
            capture.signal(number)
            let ended = await capture.end()
            #expect(ended.killed == (number == SIGKILL) && (ended.killed || ended.errors.contains("interrupted")), "\(ended)")
            let state = try object(await run("qkdctl", "device", bench.transmitter, "status", "--json"))["state"] as? String
            #expect(state == (number == SIGKILL ? "GENERATING" : "READY"))
        }
        let next = try await run("qkdctl", "device", bench.transmitter, "capture", "--symbols", "100000", "--out", file("next"))
        #expect(next.status == 0 && next.errors.contains("stopped an acquisition"), "\(next)")
    }

    @Test func captureIsExclusiveAndPrivate() async throws {
        let bench = try await Bench()
        let path = bench.folder.path + "/long.qcap"
        let capture = try Running([
            Programs.path("qkdctl"), "device", bench.transmitter, "capture", "--symbols", "100000000000", "--out", path,
        ])
        try #require(await eventually(within: .seconds(20)) { FileManager.default.fileExists(atPath: path) }, "\(capture.errors)")
        let second = try await run("qkdctl", "device", bench.transmitter, "capture", "--out", path + "2")
        #expect(second.status == 1 && second.errors.contains("lock"))
        #expect(!FileManager.default.fileExists(atPath: path + "2"))
        capture.signal(SIGINT)
        let ended = await capture.end()
        #expect(ended.status == 1 && ended.errors.contains("interrupted"))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        let status = try object(await run("qkdctl", "device", bench.transmitter, "status", "--json"))
        #expect(status["lock_owner"] as? String == "none" && status["state"] as? String == "READY")
    }

    /// Driver and emulator share QuantumOptics: a common error would cancel. Here nothing of ours is between the captured
    /// symbols and the estimate, and the key rates are those of two other packages.
    @Test func otherPackagesAgreeOnCapturedSymbols() async throws {
        guard let python = try await Self.python() else { return }
        let bench = try await Bench(seed: 5, speed: 2)
        #expect(try await bench.console(bench.transmitter, "OUTPut:STATe ON").status == 0)
        let calibrated = try object(await run("qkdctl", "device", bench.receiver, "calibrate", "--json"))
        let electronic = try #require(calibrated["electronic_noise_snu"] as? Double)
        func file(_ name: String) -> String { bench.folder.path + "/\(name).qcap" }
        for kind in ["dark", "shot"] {
            let captured = try await run(
                "qkdctl", "device", bench.receiver, "capture", "--kind", kind, "--symbols", "4000000", "--out", file(kind))
            try #require(captured.status == 0, "\(captured)")
        }
        // The receiver first and for longer: what the transmitter sends then lies within what it sees.
        let receiving = try Running([
            Programs.path("qkdctl"), "device", bench.receiver, "capture", "--symbols", "24000000", "--out", file("receiver"),
        ])
        func size() -> Int { (try? FileManager.default.attributesOfItem(atPath: file("receiver"))[.size] as? Int) ?? 0 }
        try #require(await eventually(within: .seconds(20), every: .milliseconds(10)) { size() > 1 << 20 }, "\(receiving.errors)")
        let sent = try await run(
            "qkdctl", "device", bench.transmitter, "capture", "--variance", "2", "--symbols", "8000000", "--out", file("transmitter"))
        try #require(sent.status == 0, "\(sent)")
        let received = await receiving.end()
        try #require(received.status == 0, "\(received)")

        let script = Programs.root + "/Tests/SystemTests/clients/estimate_from_capture.py"
        let result = try object(
            await run(
                python, script, "--transmitter", file("transmitter"), "--receiver", file("receiver"), "--dark", file("dark"), "--shot",
                file("shot"), "--qkdctl", Programs.path("qkdctl")))
        // Two captures of different times say so.
        let apart = try await run(
            python, script, "--transmitter", file("transmitter"), "--receiver", file("dark"), "--dark", file("dark"), "--shot", file("shot")
        )
        #expect(apart.status == 1 && apart.errors.contains("do not overlap") && !apart.errors.contains("Traceback"), "\(apart)")
        func number(_ name: String) throws -> Double { try #require(result[name] as? Double, "\(name)") }
        // The testbed: 1 dB of fibre, .05 SNU of electronic noise, a few thousandths of excess noise.
        #expect(abs(try number("transmittance") - 0.794328) < 0.004)
        #expect(abs(try number("electronic_noise") - 0.05) < 0.0005)
        #expect(abs(electronic - 0.05) < 0.0005)
        let (estimated, calibration) = (try number("excess_noise_error"), try number("excess_noise_calibration_error"))
        let spread = (estimated * estimated + calibration * calibration).squareRoot()
        #expect(abs(try number("excess_noise") - 0.002) < 0.004 + 5 * spread)
        #expect(try number("difference") < 1e-9, "qkdctl keyrate differs from qkd or qosst-skr")
    }

    /// - Returns: a Python with the packages; `nil`, with the reason printed, where there is none.
    private static func python() async throws -> String? {
        for candidate in [Programs.root + "/.venv/bin/python", "/usr/bin/python3"]
        where FileManager.default.isExecutableFile(atPath: candidate) {
            if try await run(candidate, "-c", "import numpy, qkd, qosst_skr").status == 0 { return candidate }
        }
        print("skipped: no Python with numpy, qkd and qosst-skr here (make deps makes one in .venv)")
        return nil
    }
}
