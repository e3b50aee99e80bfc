// What can go wrong in a lab.

enum LabError: Error, CustomStringConvertible {
    case testbed(file: String, problem: String)
    case folderTaken(path: String)
    case folderInUse(path: String, pid: Int32)
    case cannotStart(name: String, reason: String)
    case childEnded(name: String, end: ChildEnd, tail: [String])
    case cannotWrite(file: String)
    case missingProgram(path: String)
    case noEndpoint(device: String)
    case silent(name: String, seconds: Int, tail: [String])
    case commandFailed(command: String, end: ChildEnd, tail: [String])
    case unfinished(missing: [String])
    case interrupted(missing: [String])
    case recording(problems: [String])
    case output(file: String, reason: String)
    case fetch(problem: String)

    var description: String {
        switch self {
        case .testbed(let file, let problem): "\(file): \(problem)"
        case .folderTaken(let path): "\(path) is not empty and no lab made it: choose another --folder"
        case .folderInUse(let path, let pid): "a lab with process id \(pid) runs in \(path): stop it or choose another --folder"
        case .cannotStart(let name, let reason): "cannot start \(name): \(reason)"
        case .childEnded(let name, let end, let tail): "\(name) \(end); its last lines:\(Self.lines(tail))"
        case .cannotWrite(let file): "cannot write \(file): is the disk full?"
        case .missingProgram(let path): "\(path) is missing: build all programs first (make build)"
        case .noEndpoint(let device): "the emulator offers no TCP endpoint for device \(device)"
        case .silent(let name, let seconds, let tail): "\(name) was not ready within \(seconds) s; its last lines:\(Self.lines(tail))"
        case .commandFailed(let command, let end, let tail): "\(command) \(end):\(Self.lines(tail))"
        case .unfinished(let missing): "the time is over: \(missing.joined(separator: "; "))"
        case .interrupted(let missing): "interrupted\(missing.isEmpty ? "" : ": " + missing.joined(separator: "; "))"
        case .recording(let problems): "the recordings: \(problems.joined(separator: "; "))"
        case .output(let file, let reason): "cannot write \(file): \(reason)"
        case .fetch(let problem): "fetching keys failed: \(problem)"
        }
    }

    private static func lines(_ tail: [String]) -> String {
        tail.isEmpty ? " (none)" : tail.map { "\n    \($0)" }.joined()
    }
}
