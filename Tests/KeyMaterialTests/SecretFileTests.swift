import Foundation
import Glibc
import KeyMaterial
import Testing

@Suite struct SecretFileTests {
    private let folder: URL
    private var path: String { folder.appending(path: "secret").path }

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func write(_ text: String, mode: Int = 0o600) {
        _ = FileManager.default.createFile(atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: mode])
    }

    private func refusal(_ path: String) -> String? {
        do {
            _ = try SecretFile(path)
            return nil
        } catch { return "\(error)" }
    }

    @Test("What is in the file is read, and overwriting leaves zeros of the same length")
    func readsAndOverwrites() throws {
        write("sixteen bytes, +")
        #expect(try SecretFile(path).contents().withBytes { Array($0) } == Array("sixteen bytes, +".utf8))
        try SecretFile(path, for: .overwriting).overwrite()
        #expect(FileManager.default.contents(atPath: path) == Data(count: 16))
        try FileManager.default.removeItem(at: folder)
    }

    @Test("A service reads its own user's files only, root anybody's, and nobody what others can read")
    func owners() {
        let plain = S_IFREG | 0o600
        #expect(SecretFile.trouble(owner: 990, mode: plain, for: 991)?.contains("belongs to user 990") == true)
        #expect(SecretFile.trouble(owner: 0, mode: plain, for: 991)?.contains("belongs to user 0") == true)
        #expect(SecretFile.trouble(owner: 991, mode: plain, for: 991) == nil)
        #expect(SecretFile.trouble(owner: 990, mode: plain, for: 0) == nil)
        #expect(SecretFile.trouble(owner: 990, mode: plain | 0o040, for: 0)?.contains("chmod 600") == true)
    }

    @Test("Links, folders, pipes, missing files and files that others read are refused, each with its reason")
    func refusals() throws {
        #expect(refusal(path)?.contains("No such file") == true)
        write("x", mode: 0o640)
        #expect(refusal(path)?.contains("chmod 600") == true)
        #expect(refusal(folder.path)?.contains("no plain file") == true)
        let (alias, pipe) = (path + ".link", path + ".pipe")
        try FileManager.default.createSymbolicLink(atPath: alias, withDestinationPath: path)
        #expect(refusal(alias)?.contains("symbolic link") == true)
        #expect(mkfifo(pipe, 0o600) == 0)
        #expect(refusal(pipe)?.contains("no plain file") == true)
        try FileManager.default.removeItem(at: folder)
    }
}
