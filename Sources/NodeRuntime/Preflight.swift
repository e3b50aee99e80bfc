// What a service's `--check` looks at besides the file itself. Nothing is opened for writing, consumed or connected.

import Foundation
import Glibc

/// Collects what is wrong, so that a person hears of all of it at once.
public struct Preflight {
    public private(set) var problems: [String] = []

    public init() {}

    public mutating func problem(_ text: String) { problems.append(text) }

    /// Notes what `body` throws.
    public mutating func attempt(_ name: String = "", _ body: () throws -> Void) {
        do { try body() } catch { problem(name.isEmpty ? "\(error)" : "\(name): \(error)") }
    }

    /// A secret has to be a plain file (no link) that its owner alone can read, of a size that fits.
    /// - Parameter optional: whether it may be missing; not being readable never may.
    public mutating func secret(_ path: String, for what: String, sizes: ClosedRange<Int> = 1...Int.max, optional: Bool = false) {
        // Does not follow links.
        guard let facts = try? FileManager.default.attributesOfItem(atPath: path) else {
            let code = access(path, F_OK) == 0 ? EACCES : errno
            if optional, code == ENOENT { return }
            return problem("the secret for \(what), '\(path)', cannot be used: \(String(cString: strerror(code)))")
        }
        guard facts[.type] as? FileAttributeType == .typeRegular else {
            return problem("the secret for \(what), '\(path)', is no plain file")
        }
        let size = (facts[.size] as? NSNumber)?.intValue ?? 0
        if ((facts[.posixPermissions] as? NSNumber)?.intValue ?? 0o777) & 0o077 != 0 {
            problem("the secret for \(what), '\(path)', can be read by others: chmod 600 it")
        }
        if access(path, R_OK) != 0 { problem("the secret for \(what), '\(path)', cannot be read by this user") }
        if !sizes.contains(size) {
            let most = sizes.upperBound == Int.max ? "" : " to \(sizes.upperBound)"
            problem("the secret for \(what), '\(path)', has \(size) bytes, \(sizes.lowerBound)\(most) are needed")
        }
    }

    /// A path that has to be there: an empty one would mean the configuration's own folder.
    public mutating func path(_ text: String, for what: String) {
        if text.isEmpty { problem("\(what): it is empty, a path is needed") }
    }

    /// A folder in which the service makes files: it, or the nearest one above that exists, has to be writable.
    public mutating func writableFolder(_ path: String, for what: String) {
        var folder = path.isEmpty ? "." : path
        while true {
            var isFolder: ObjCBool = false
            if FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) {
                guard isFolder.boolValue else { return problem("\(what): '\(folder)' is no folder") }
                if access(folder, W_OK | X_OK) != 0 { problem("\(what): '\(folder)' cannot be written by this user") }
                return
            }
            let above = (folder as NSString).deletingLastPathComponent
            folder = above.isEmpty ? "." : above
        }
    }

    /// A Unix socket's path has to fit into 107 bytes.
    public mutating func socket(_ path: String, for what: String) {
        if path.utf8.count > 107 { problem("\(what): \(NodeRuntimeError.socketPathTooLong(path: path))") }
        writableFolder((path as NSString).deletingLastPathComponent, for: what)
    }

    /// `scheme:rest`, with one of the known schemes.
    public mutating func uri(_ text: String, for what: String, schemes: [String]) {
        let parts = text.split(separator: ":", maxSplits: 1)
        guard parts.count == 2, schemes.contains(String(parts[0])) else {
            return problem("\(what): '\(text)' begins with none of \(schemes.map { $0 + ":" }.joined(separator: ", "))")
        }
    }

    /// What the program says at the end: the problems on standard error, one a line, or that the file is usable.
    /// - Returns: whether there is none.
    public func conclude(_ file: String) -> Bool {
        guard problems.isEmpty else {
            FileHandle.standardError.write(Data(problems.map { "\(file): \($0)\n" }.joined().utf8))
            return false
        }
        print("\(file): usable")
        return true
    }
}
