// One lab from start to end: files, emulator, services, watching, keys, result.

import Foundation
import Synchronization

final class Lab: Sendable {
    let bed: Testbed
    let testbedFile: String
    let plan: LabPlan
    let folder: LabFolder
    let pace: LabCommand.Pace
    /// Device time over wall time at most, where time follows readers.
    let speed: Double
    /// Where this build's programs are.
    let programs: String
    private let screen = Mutex(LabScreen())

    static let defaultSpeed = 20.0

    struct Ending: Sendable {
        var minutes: Double?
        var stay: Bool
        var limitMinutes: Double
        /// Where the result goes.
        var json: String?
    }

    /// - Throws: `LabError.testbed` or `.missingProgram`.
    init(
        testbed: String, folder: String?, bare: Bool = false, records: Bool = false, pace: LabCommand.Pace = .follow,
        speed: Double = defaultSpeed
    ) throws {
        testbedFile = absolutePath(testbed)
        bed = try Testbed.load(testbedFile)
        try bed.checkNames(file: testbed)
        try bed.checkCodes(file: testbed)
        plan = try LabPlan(bed, file: testbed, bare: bare, records: records, freePort: FreePorts.next)
        self.folder = LabFolder(path: absolutePath(folder ?? "lab/\(bed.testbed)"))
        self.pace = pace
        self.speed = speed
        programs = try Self.programFolder()
    }

    /// Where this program stands, its siblings do.
    static func programFolder() throws -> String {
        (try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") as NSString).deletingLastPathComponent
    }

    func say(_ text: String) { screen.withLock { $0.say(text) } }
    func show(_ lines: [String]) { screen.withLock { $0.show(lines) } }
    func program(_ name: String) -> String { programs + "/" + name }

    /// Folders, PKI, secrets and configuration files of every site.
    func prepare(devices: DeviceURIs) async throws {
        try folder.claim(sites: plan.sites.map(\.name))
        try await makeSecrets()
        try writeConfigurations(devices: devices)
        folder.release()
    }

    /// Runs the lab to its end.
    ///
    /// - Throws: `LabError`, and `CancellationError` where it was interrupted before any result.
    func run(_ ending: Ending) async throws {
        try folder.claim(sites: plan.sites.map(\.name))
        // Socket paths are relative to here: the kernel allows them 107 bytes.
        guard FileManager.default.changeCurrentDirectoryPath(folder.path) else { throw LabError.folderTaken(path: folder.path) }
        let supervisor = Supervisor(folder: folder) { self.say($0) }
        var conclusion: Conclusion
        do {
            conclusion = try await work(supervisor, ending)
        } catch {
            await stop(supervisor)
            throw error
        }
        await stop(supervisor)
        // Whole once the services have stopped.
        if plan.records { conclusion.result.recordings = await replayRecordings() }
        try finish(conclusion, ending)
    }

    private struct Conclusion {
        var result: LabResult
        var missing: [String]
        var interrupted: Bool
        var problem: LabError?
    }

    private func finish(_ conclusion: Conclusion, _ ending: Ending) throws {
        if let path = ending.json { try OutputFile.write(conclusion.result.json(), to: path) }
        if let problem = conclusion.problem { throw problem }
        try judge(conclusion.missing, conclusion.result, interrupted: conclusion.interrupted, stay: ending.stay)
        let problems = conclusion.result.recordings?.compactMap(\.problem) ?? []
        if !problems.isEmpty { throw LabError.recording(problems: problems) }
    }

    private func stop(_ supervisor: Supervisor) async {
        await supervisor.stop()
        folder.release()
    }

    private func work(_ supervisor: Supervisor, _ ending: Ending) async throws -> Conclusion {
        say("\(bed.testbed): \(plan.sites.count) sites, \(plan.links.count) links; files and logs in \(folder.path)")
        try await makeSecrets()
        let devices = try await startEmulator(supervisor)
        try writeConfigurations(devices: devices)
        let started = ContinuousClock.now
        for site in plan.sites { try await startServices(site, supervisor) }
        for line in agentLines { say(line) }
        if plan.records { say("every link is recorded and deposits nothing: SITE/\(LabPlan.recordings) is key material") }
        say("services are up; a link without \(plan.records ? "block" : "key") after \(LabTable.minutes(ending.limitMinutes)) is a failure")
        let watch = LabWatch(lab: self, started: started)
        let (interrupted, problem) = await follow(watch, supervisor, ending)
        let result = await conclude(watch, interrupted: interrupted)
        for line in result.summary { say(line) }
        return Conclusion(result: result, missing: watch.missing(in: result), interrupted: interrupted, problem: problem)
    }

    /// Whoever ends a lab that was to stay has what was wanted, unless keys differ.
    private func judge(_ missing: [String], _ result: LabResult, interrupted: Bool, stay: Bool) throws {
        if missing.isEmpty { return }
        if !interrupted { throw LabError.unfinished(missing: missing) }
        let different = result.links.contains { $0.keys == KeyComparison.different.description }
        if different || !stay { throw LabError.interrupted(missing: missing) }
    }

    /// Draws the table until the ending is reached.
    /// - Returns: whether it was interrupted, and what else made it end early.
    private func follow(_ watch: LabWatch, _ supervisor: Supervisor, _ ending: Ending) async -> (interrupted: Bool, problem: LabError?) {
        while !Task.isCancelled {
            await watch.poll()
            show(watch.table(width: screen.withLock { $0.width }))
            if let problem = await supervisor.problem { return (false, problem) }
            let minutes = watch.seconds / 60
            let longEnough = minutes >= ending.minutes ?? 0
            if watch.everyLinkIsDone, longEnough, !ending.stay { return (false, nil) }
            if !watch.everyLinkIsDone, minutes >= max(ending.limitMinutes, ending.minutes ?? 0) { return (false, nil) }
            try? await Task.sleep(for: .milliseconds(500))
        }
        return (true, nil)
    }

    private func conclude(_ watch: LabWatch, interrupted: Bool) async -> LabResult {
        if interrupted { say("interrupted") }
        // Fetching keys must not be cut short by the interruption that led here.
        return await Task.detached { [self] in
            if interrupted { await watch.poll() }
            var found: [String: KeyComparison] = [:]
            for link in plan.links where watch.hasKey(link) {
                found[link.name] = await fetchAndCompare(link)
            }
            return await watch.result(fetches: found)
        }.value
    }
}
