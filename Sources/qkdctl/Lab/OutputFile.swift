// Files that a command writes at its end: looked at first, so that minutes of work are not lost to a mistyped path.

import Foundation
import Glibc

enum OutputFile {
    /// - Throws: `LabError.output` where the file could not be written now. Nothing is made or changed.
    static func check(_ path: String) throws {
        var isFolder: ObjCBool = false
        let folder = (path as NSString).deletingLastPathComponent
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
            throw LabError.output(file: path, reason: "there is no folder \(folder)")
        }
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
            if isFolder.boolValue { throw LabError.output(file: path, reason: "it is a folder") }
            guard access(path, W_OK) == 0 else { throw LabError.output(file: path, reason: String(cString: strerror(errno))) }
        } else if access(folder, W_OK | X_OK) != 0 {
            throw LabError.output(file: path, reason: "folder \(folder): \(String(cString: strerror(errno)))")
        }
    }

    /// - Throws: `LabError.output`.
    static func write(_ data: Data, to path: String) throws {
        try check(path)
        do { try data.write(to: URL(filePath: path)) } catch {
            throw LabError.output(file: path, reason: "it could not be written whole: is the disk full?")
        }
    }
}
