// What a link service is told at its start.

public import QKDModel

public struct LinkServiceConfiguration: Sendable {
    public struct Endpoint: Sendable, Equatable, Codable, CustomStringConvertible {
        public var host: String
        public var port: Int

        /// - Parameter text: `host:port` or `[address]:port`.
        /// - Throws: `QuantumLinkError.configuration`.
        public init(_ text: String) throws(QuantumLinkError) {
            guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]), (0...65535).contains(port),
                colon > text.startIndex
            else { throw .configuration("'\(text)' is no host:port") }
            host = String(text[..<colon].filter { $0 != "[" && $0 != "]" })
            self.port = port
        }

        public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    }

    public struct Device: Sendable, Equatable {
        public var name: String
        public var uri: String
        public init(name: String, uri: String) {
            self.name = name
            self.uri = uri
        }
    }

    public struct Peer: Sendable, Equatable, Codable {
        public var node: NodeID
        public var channel: Endpoint
        /// The installed secret's file: a path, or a bare name in the secrets folder. nil: installed already, or by hand later.
        public var secret: String?
        public init(node: NodeID, channel: Endpoint, secret: String?) {
            self.node = node
            self.channel = channel
            self.secret = secret
        }
    }

    public struct Link: Sendable, Equatable, Codable {
        public var settings: LinkSettings
        public var device: String
        /// A folder: the link is recorded there, symbols and all, and deposits nothing.
        public var record: String?
        public init(settings: LinkSettings, device: String, record: String? = nil) {
            self.settings = settings
            self.device = device
            self.record = record
        }
    }

    public var node: NodeID
    /// The folder of the durable state.
    public var state: String
    /// The folder of secret files that peers are given by name.
    public var secrets: String?
    /// Where receivers' ends listen for their transmitters' ends.
    public var listen: Endpoint?
    public var devices: [Device]
    public var peers: [Peer]
    public var links: [Link]
    /// Decoders that work side by side.
    public var decoders: Int

    public init(
        node: NodeID, state: String, listen: Endpoint?, devices: [Device], peers: [Peer], links: [Link], decoders: Int,
        secrets: String? = nil
    ) {
        self.node = node
        self.state = state
        self.listen = listen
        self.devices = devices
        self.peers = peers
        self.links = links
        self.decoders = decoders
        self.secrets = secrets
    }
}
