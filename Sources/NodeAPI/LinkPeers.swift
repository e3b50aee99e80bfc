// Peers of the link service, and what becomes of devices, links and peers at run time.
//
//   GET    /peers        [LinkPeer]
//   POST   /peers        LinkPeerRequest -> LinkPeer     a peer that the file does not have, or a new address for one added here
//   DELETE /peers/:id    LinkPeer                        as it was; refused while a link needs it, and for the file's peers
//
// A secret is named by its file inside the service's secrets folder, never by its content and never by a path.

public import QKDModel

/// Where something comes from that both the file and a request can bring.
public enum LinkOrigin: String, Codable, Sendable, CaseIterable { case file, request }

/// A far node as this one knows it.
public struct LinkPeer: Codable, Sendable, Equatable {
    public var node: NodeID
    /// `host:port` of its classical channel.
    public var channel: String
    /// The secret file's name, where one was named.
    public var secretName: String?
    public var origin: LinkOrigin
    /// Links to it, running or prepared.
    public var links: [LinkID]

    public init(node: NodeID, channel: String, secretName: String?, origin: LinkOrigin, links: [LinkID]) {
        self.node = node
        self.channel = channel
        self.secretName = secretName
        self.origin = origin
        self.links = links
    }
}

/// A peer as somebody wants it.
public struct LinkPeerRequest: Codable, Sendable, Equatable {
    public var node: NodeID
    /// `host:port` of its classical channel.
    public var channel: String
    /// Name of a file in the service's secrets folder, made by `qkdctl secret make`; installed (and removed) when a link to the peer
    /// starts. Absent: the secret is installed already, or will be by `qkdctl secret install`.
    public var secretName: String?

    public init(node: NodeID, channel: String, secretName: String? = nil) {
        self.node = node
        self.channel = channel
        self.secretName = secretName
    }
}

/// What became of a device, link or peer.
public enum LinkChange: String, Codable, Sendable, CaseIterable {
    /// Devices: opened for the first time or again; another state, identity or reason; closed, lost or unreachable.
    case appeared, changed, vanished
    /// Links: checked and kept; started; switched; gone.
    case prepared, committed, enabled, disabled, removed
    /// Peers; `removed` too.
    case added
}
