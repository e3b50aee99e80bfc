import Foundation

/// The bridge's remote control.
enum Bridge {
    /// Sends one line. - Returns: the answer's line.
    static func tell(_ line: String) throws -> String {
        guard let path = ProcessInfo.processInfo.environment["QKD_BRIDGE"] else { throw Wrong("QKD_BRIDGE names no socket") }
        let handle = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(handle) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(100)) }
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(handle, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard connected == 0 else { throw Wrong("no bridge at \(path)") }
        let text = line + "\n"
        guard write(handle, text, text.utf8.count) == text.utf8.count else { throw Wrong("the bridge hung up") }
        var answer = [UInt8](repeating: 0, count: 256)
        let count = read(handle, &answer, answer.count)
        return String(decoding: answer.prefix(max(0, count)).prefix { $0 != 10 }, as: UTF8.self)
    }

    static func must(_ line: String) throws {
        let answer = try tell(line)
        guard answer == "ok" else { throw Wrong("the bridge says '\(answer)' to '\(line)'") }
    }

    /// One word of `state`.
    static func state(_ index: Int, _ key: String) throws -> String {
        let words = try tell("state \(index)").split(separator: " ").map { $0.split(separator: "=", maxSplits: 1).map(String.init) }
        return words.first { $0.first == key }?.last ?? ""
    }
}

/// What this process holds.
struct Holdings: CustomStringConvertible {
    var files: Int
    var threads: Int
    var residentKiB: Int

    init() {
        files = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []).count
        threads = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []).count
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
        residentKiB = Int(line.filter(\.isNumber)) ?? 0
    }

    var description: String { "\(files) files, \(threads) threads, \(residentKiB) KiB" }
}
