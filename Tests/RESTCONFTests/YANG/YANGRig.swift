import Foundation
import RESTCONF

/// Schemas, paths and data that the tests of YANG and of the datastore share.
enum YANGRig {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path
    static let modules = root + "/yang"
    static let vectors = root + "/Tests/Vectors/yang"
    static let libyangModules = "/usr/share/yang/modules/libyang"

    /// What an agent loads.
    static let nodeModules = [
        "etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd", "ietf-restconf", "ietf-restconf-monitoring",
        "ietf-netconf-with-defaults",
    ]

    static func nodeSchema() throws -> YANGSchema { try YANGSchema(folders: [modules], modules: nodeModules) }

    static func shopSchema() throws -> YANGSchema {
        try YANGSchema(folders: [modules, vectors], modules: ["test-shop", "ietf-netconf-with-defaults"])
    }

    static func vector(_ name: String) throws -> String { try String(contentsOfFile: vectors + "/" + name, encoding: .utf8) }

    /// A folder of one test's own, gone when it ends.
    final class Folder: Sendable {
        let path: String
        init() throws {
            path = NSTemporaryDirectory() + "sdqkd-restconf-" + UUID().uuidString
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    struct Outcome {
        var status: Int32
        var output: String
    }

    /// Runs a program of another project's.
    static func run(_ program: String, _ arguments: [String]) throws -> Outcome {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Outcome(status: process.terminationStatus, output: String(decoding: data, as: UTF8.self))
    }

    /// What a call throws.
    static func refusal(_ body: () async throws -> some Any) async -> RESTCONFError? {
        do {
            _ = try await body()
            return nil
        } catch { return error as? RESTCONFError }
    }

    static func json(_ data: Data) throws -> NSDictionary {
        try JSONSerialization.jsonObject(with: data) as? NSDictionary ?? [:]
    }

    static func json(_ text: String) throws -> NSDictionary { try json(Data(text.utf8)) }
}

/// Random inputs that are the same in every run, unless SDQKD_SEED asks for others: what has failed can be run again. SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    let seed: UInt64
    private var state: UInt64

    init() {
        seed = ProcessInfo.processInfo.environment["SDQKD_SEED"].flatMap(UInt64.init) ?? 8040
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
