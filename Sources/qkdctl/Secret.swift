// `qkdctl secret`: the secrets that authenticate a link's classical channel until it has key of its own
// (docs/wire/classical-channel.md, 2.1).

import ArgumentParser
import Foundation
import Glibc
import KeyMaterial
import NodeAPI
import NodeRuntime
import QKDModel

struct SecretCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret", abstract: "Make and install the secrets that authenticate a link.", subcommands: [Make.self, Install.self])

    struct Make: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a fresh secret; carry a copy to the far end by hand and install it at both.")
        @Argument(help: "File to write, mode 0600; must not exist.")
        var file: String
        @Option(help: "Bytes of secret.")
        var bytes = 65536

        static let least = 32 + 2 * (65536 / 8 + 1024)
        static let most = 1 << 30

        func validate() throws {
            guard (Self.least...Self.most).contains(bytes) else {
                throw ValidationError(
                    "--bytes is \(bytes), \(Self.least) to \(Self.most) are possible: a link keeps 64 kbit per direction in reserve")
            }
        }

        func run() throws {
            let random = KernelRandom()
            var header = Array("SDQKSEC1".utf8) + random.bytes(16)
            withUnsafeBytes(of: UInt32(bytes).littleEndian) { header.append(contentsOf: $0) }
            let content = SecretBytes.concatenate([SecretBytes(consuming: &header), SecretBytes(count: bytes, random: random)])
            let handle = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard handle >= 0 else { throw SecretFileError(file: file, reason: String(cString: strerror(errno)).lowercased()) }
            defer { close(handle) }
            try content.withBytes { bytes in
                var rest = bytes[...]
                while !rest.isEmpty {
                    let count = write(handle, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                    guard count > 0 else { throw SecretFileError(file: file, reason: String(cString: strerror(errno)).lowercased()) }
                    rest = rest.dropFirst(count)
                }
            }
            guard fsync(handle) == 0 else { throw SecretFileError(file: file, reason: "it could not be written to disk") }
        }
    }

    struct Install: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give a link a fresh secret; the link goes on with it as soon as both ends have it.")
        @Argument(help: "Secret file on the service's machine, mode 0600.")
        var file: String
        @Option(help: "The link's id.")
        var link: String
        @Option(help: "Socket of qkd-linkd.")
        var socket: String

        func run() async throws {
            let client = LocalClient(socketPath: socket)
            let path = file.hasPrefix("/") ? file : FileManager.default.currentDirectoryPath + "/" + file
            let status: LinkStatus = try await client.post("/links/\(link)/secret", LinkSecretRequest(path: path))
            print("\(status.link): installed, \(status.padForward ?? 0) and \(status.padBackward ?? 0) bytes of pad")
            await client.shutdown()
        }
    }
}

struct SecretFileError: Error, CustomStringConvertible {
    var file: String
    var reason: String
    var description: String { "cannot write \(file): \(reason)" }
}
