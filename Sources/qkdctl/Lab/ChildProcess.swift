// Programs that the lab starts: each with its own folder, output files and process group, none left behind.
//
// A child dies with the lab even if the lab is killed: `setpriv --pdeathsig` asks the kernel for SIGTERM when the
// thread that started the child ends, so all children are started by one thread that never does.

import Foundation
import Glibc
import Synchronization

/// How a child ended.
enum ChildEnd: Sendable, Equatable, CustomStringConvertible {
    case exited(Int32)
    case killed(signal: Int32)

    init(waitStatus status: Int32) {
        self = status & 0x7f == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: status & 0x7f)
    }

    var description: String {
        switch self {
        case .exited(let status): "ended with status \(status)"
        case .killed(let signal): "was killed by signal \(signal)"
        }
    }
}

/// What to start and where.
struct ChildPlan: Sendable {
    /// Names the child on screen and in file names.
    var name: String
    /// Program and arguments; the program by its path.
    var command: [String]
    /// Working folder.
    var folder: String
    /// Standard output goes to `<output>.out`, standard error is appended to `<output>.log`.
    var output: String
    /// The command of its n-th restart, where that is another one.
    var again: (@Sendable (Int) -> [String])?
}

/// One running or ended child.
final class ChildProcess: Sendable {
    let plan: ChildPlan
    let pid: pid_t
    private let end = Mutex<(ChildEnd?, [CheckedContinuation<ChildEnd, Never>])>((nil, []))

    private init(plan: ChildPlan, pid: pid_t) {
        self.plan = plan
        self.pid = pid
    }

    /// - Throws: `LabError.cannotStart`.
    static func start(_ plan: ChildPlan) async throws -> ChildProcess {
        let pid = try await SpawnThread.shared.spawn(plan)
        let child = ChildProcess(plan: plan, pid: pid)
        Thread.detachNewThread { child.reap() }
        return child
    }

    /// `nil` while it runs.
    var ended: ChildEnd? { end.withLock { $0.0 } }

    func wait() async -> ChildEnd {
        await withCheckedContinuation { continuation in
            let known = end.withLock { state -> ChildEnd? in
                if state.0 == nil { state.1.append(continuation) }
                return state.0
            }
            if let known { continuation.resume(returning: known) }
        }
    }

    func signal(_ number: Int32) {
        // Not after it was reaped: the number may belong to somebody else by then.
        end.withLock { state in
            if state.0 == nil { kill(pid, number) }
        }
    }

    /// SIGTERM, and SIGKILL after `patience`.
    func stop(patience: Duration) async {
        signal(SIGTERM)
        let deadline = ContinuousClock.now + patience
        while ended == nil, ContinuousClock.now < deadline { await pause(.milliseconds(20)) }
        if ended == nil { signal(SIGKILL) }
        _ = await wait()
    }

    /// The last lines of its standard error.
    func tail(_ count: Int = 12) -> [String] {
        let text = (try? String(contentsOfFile: plan.output + ".log", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").suffix(count).map(String.init)
    }

    private func reap() {
        // The child is left a zombie until its end is noted, so that `signal` never meets a reused number.
        var info = siginfo_t()
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        let waiting = end.withLock { state -> ([CheckedContinuation<ChildEnd, Never>], ChildEnd) in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            let known = ChildEnd(waitStatus: status)
            defer { state = (known, []) }
            return (state.1, known)
        }
        for continuation in waiting.0 { continuation.resume(returning: waiting.1) }
    }
}

/// Sleeps through cancellation too: stopping children must not be cut short.
func pause(_ duration: Duration) async {
    await Task.detached { try? await Task.sleep(for: duration) }.value
}

/// The thread that starts every child and lives as long as the process.
private final class SpawnThread: Sendable {
    static let shared = SpawnThread()
    private let jobs = Mutex<[@Sendable () -> Void]>([])
    private let wake = DispatchSemaphore(value: 0)

    private init() {
        let thread = Thread { [jobs = Unowned(self)] in
            while true { jobs.owner.runNext() }
        }
        thread.name = "spawn"
        thread.start()
    }

    /// The shared thread is never released; the box says so to the compiler.
    private struct Unowned: Sendable {
        unowned let owner: SpawnThread
        init(_ owner: SpawnThread) { self.owner = owner }
    }

    private func runNext() {
        wake.wait()
        let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        job?()
    }

    func spawn(_ plan: ChildPlan) async throws -> pid_t {
        try await withCheckedThrowingContinuation { continuation in
            jobs.withLock { $0.append { continuation.resume(with: Result { try posixSpawn(plan) }) } }
            wake.signal()
        }
    }
}

private let setpriv = "/usr/bin/setpriv"

private func posixSpawn(_ plan: ChildPlan) throws -> pid_t {
    let guarded = access(setpriv, X_OK) == 0 ? [setpriv, "--pdeathsig", "TERM"] : []
    let command = guarded + ["/usr/bin/env", "--chdir=\(plan.folder)"] + plan.command
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, plan.output + ".out", O_WRONLY | O_CREAT | O_TRUNC, 0o640)
    posix_spawn_file_actions_addopen(&actions, 2, plan.output + ".log", O_WRONLY | O_CREAT | O_APPEND, 0o640)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A group of its own: ^C on the terminal reaches the lab alone, which then stops its children in order.
    // Signals that the lab ignores or holds back are the child's to choose again.
    var signals = sigset_t()
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
    posix_spawnattr_setpgroup(&attributes, 0)
    let arguments = command.map { strdup($0) }
    defer { arguments.forEach { free($0) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, command[0], &actions, &attributes, arguments + [nil], environ)
    guard code == 0 else { throw LabError.cannotStart(name: plan.name, reason: String(cString: strerror(code))) }
    return pid
}
