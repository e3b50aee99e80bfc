// What a key store is told, and what can be wrong with it.

public import Foundation
import KeyMaterial
public import QKDModel

/// What a key store needs to know. Paths are as the program resolved them.
public struct KeyStoreConfiguration: Sendable {
    public struct Face: Sendable {
        public var listen: HostPort
        public var files: TLSFiles
        public init(listen: HostPort, files: TLSFiles) {
            self.listen = listen
            self.files = files
        }
    }

    public struct Peer: Sendable {
        public var node: NodeID
        public var address: HostPort
        public var certificateName: String
        public var secret: String
        public init(node: NodeID, address: HostPort, certificateName: String, secret: String) {
            self.node = node
            self.address = address
            self.certificateName = certificateName
            self.secret = secret
        }
    }

    public var node: NodeID
    public var database: String
    public var masterKey: String
    public var api: Face
    public var km: Face
    public var peers: [Peer]
    /// Every application of the network and the node that serves it.
    public var applications: [SAEID: NodeID]
    public var deliverEmulated = false
    /// Size of a key where the application names none, in bits.
    public var keySizeBits = 256
    /// Each link's limit in store, in bits.
    public var capacityBits = 1 << 33
    /// How long the peer may take to reserve.
    public var patience = Duration.seconds(3)
    /// Folder with the secrets of peers that are added at run time; nil: none may be.
    public var secrets: String?
    public var policy = ApplicationPolicy()

    public init(
        node: NodeID, database: String, masterKey: String, api: Face, km: Face, peers: [Peer], applications: [SAEID: NodeID]
    ) {
        self.node = node
        self.database = database
        self.masterKey = masterKey
        self.api = api
        self.km = km
        self.peers = peers
        self.applications = applications
    }

    /// - Throws: `KeyStoreError.configuration` with the reason.
    func check() throws(KeyStoreError) {
        guard keySizeBits % 8 == 0, (64...8192).contains(keySizeBits) else {
            throw .configuration("key_size \(keySizeBits) is not a multiple of 8 from 64 to 8192")
        }
        try policy.check()
        guard capacityBits > 0 else { throw .configuration("capacity \(capacityBits) is not above 0") }
        for (index, peer) in peers.enumerated() {
            if peer.certificateName.isEmpty { throw .configuration("certificate_name of peer \(peer.node) is empty") }
            if peer.node == node { throw .configuration("node \(node) is listed as its own peer") }
            if peers[..<index].contains(where: { $0.node == peer.node }) { throw .configuration("peer \(peer.node) is listed twice") }
            if peers[..<index].contains(where: { $0.certificateName == peer.certificateName }) {
                throw .configuration("certificate name \(peer.certificateName) belongs to two peers")
            }
        }
        for (application, home) in applications where home != node && !peers.contains(where: { $0.node == home }) {
            throw .configuration("application \(application) lives at \(home), which is neither this node nor a peer")
        }
    }
}

extension KeyStoreService {
    /// Looks at everything that a start reads, without opening the database: one may be in use by a running store.
    ///
    /// - Returns: all that is missing or cannot be used, and where; secrets are the caller's to look at first.
    public static func problems(in configuration: KeyStoreConfiguration, now: Date = Date()) -> [KeyStoreError] {
        var problems: [KeyStoreError] = []
        func attempt(_ body: () throws -> Void) {
            do { try body() } catch {
                let problem = error as? KeyStoreError ?? .certificate("\(error)")
                if !problems.contains(problem) { problems.append(problem) }
            }
        }
        attempt { try configuration.check() }
        for (name, face) in [("km", configuration.km), ("api014", configuration.api)] {
            attempt { try face.files.check(name, now: now) }
        }
        var secrets: [(peer: NodeID, bytes: SecretBytes)] = []
        for peer in configuration.peers {
            attempt {
                let bytes = try SecretFile.readPair(peer.secret)
                if let other = secrets.first(where: { $0.bytes.matches(bytes) }) {
                    throw KeyStoreError.secret("'\(peer.secret)' for \(peer.node) is the one for \(other.peer): its pads would serve twice")
                }
                secrets.append((peer.node, bytes))
            }
        }
        let files = FileManager.default
        if files.fileExists(atPath: configuration.masterKey) || files.fileExists(atPath: configuration.database) {
            attempt { _ = try SecretFile.read(configuration.masterKey, sizes: 32...32) }
        }
        if let folder = configuration.secrets {
            var isFolder: ObjCBool = false
            if !files.fileExists(atPath: folder, isDirectory: &isFolder) || !isFolder.boolValue {
                problems.append(.configuration("the folder of secrets '\(folder)' does not exist"))
            }
        }
        return problems
    }
}
