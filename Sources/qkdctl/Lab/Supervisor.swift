// Keeps a lab's programs running, as an init system would: what ends by itself is started again after a moment, what
// ends too often stops the lab, and all of them stop with it.

import Foundation

actor Supervisor {
    /// Restarts of one program within `window` before it is given up.
    static let mostRestarts = 10
    static let window: Duration = .seconds(120)

    private let folder: LabFolder
    private let say: @Sendable (String) -> Void
    private var children: [ChildProcess] = []
    private var restarts: [String: [ContinuousClock.Instant]] = [:]
    private var starts: [String: Int] = [:]
    private var watchers: [Task<Void, Never>] = []
    private var stopping = false
    private var failure: LabError?

    /// - Parameter say: told of every end and restart.
    init(folder: LabFolder, say: @escaping @Sendable (String) -> Void) {
        self.folder = folder
        self.say = say
    }

    /// - Parameter restarting: whether an end by itself is followed by a new start; if not, it is the lab's failure.
    /// - Throws: `LabError.cannotStart` or `.missingProgram`.
    func start(_ plan: ChildPlan, restarting: Bool) async throws {
        guard FileManager.default.isExecutableFile(atPath: plan.command[0]) else { throw LabError.missingProgram(path: plan.command[0]) }
        let child = try await ChildProcess.start(plan)
        guard !stopping else {
            await child.stop(patience: .seconds(10))
            return
        }
        children.removeAll { $0.plan.name == plan.name }
        children.append(child)
        try? note()
        watchers.append(Task { await self.watch(child, restarting: restarting) })
    }

    /// What stopped the lab from inside, if anything did.
    var problem: LabError? { failure }

    func child(_ name: String) -> ChildProcess? { children.first { $0.plan.name == name } }

    private var list: String { folder.path + "/children.json" }

    /// Stops all, the last started first, and waits for their end.
    func stop() async {
        stopping = true
        for child in children.reversed() { child.signal(SIGTERM) }
        for child in children.reversed() { await child.stop(patience: .seconds(10)) }
        for watcher in watchers {
            watcher.cancel()
            await watcher.value
        }
        children = []
        try? FileManager.default.removeItem(atPath: list)
    }

    private func watch(_ child: ChildProcess, restarting: Bool) async {
        let end = await child.wait()
        guard !stopping else { return }
        let name = child.plan.name
        let recent = restarts[name, default: []].filter { .now - $0 < Self.window }
        guard restarting, recent.count < Self.mostRestarts else {
            failure = .childEnded(name: name, end: end, tail: child.tail())
            return
        }
        restarts[name] = recent + [.now]
        starts[name, default: 0] += 1
        say("\(name) \(end); it is started again")
        try? await Task.sleep(for: .seconds(1))
        guard !stopping else { return }
        do {
            var plan = child.plan
            if let again = plan.again { plan.command = again(starts[name, default: 0]) }
            try await start(plan, restarting: true)
        } catch {
            failure = .cannotStart(name: name, reason: "\(error)")
        }
    }

    /// Names and process ids, for people and tests.
    private func note() throws {
        let pids = Dictionary(children.map { ($0.plan.name, Int($0.pid)) }) { first, _ in first }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(pids).write(to: URL(filePath: list), options: .atomic)
    }
}
