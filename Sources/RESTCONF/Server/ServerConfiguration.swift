// What a server is told, and what it holds its clients to.

/// What one client, and all of them together, may take of a server.
public struct RESTCONFLimits: Sendable, Equatable {
    /// Bytes of a request's body; beyond: 413 too-big.
    public var bodyBytes = 1 << 20
    /// How deep objects, arrays and elements of a body may be nested; beyond: 413 too-big.
    public var depth = 64
    /// Bytes of a request's target (path and query); beyond: 414 too-big.
    public var targetBytes = 8192
    /// Connections at once; a surplus one is answered 503 resource-denied and closed.
    public var connections = 256
    /// Per client and second, whatever the number of its connections; beyond: 429 resource-denied.
    public var requestsPerSecond = 500.0
    /// Requests that a client may send at once after a pause.
    public var requestBurst = 1000.0
    /// For the TLS handshake, and again for the first request's head.
    public var headSeconds = 10
    /// From a request's head to the end of its body; beyond: 408 and the connection is closed.
    public var bodySeconds = 30
    /// Between an answer and the next request's head, however slowly that arrives.
    public var idleSeconds = 60
    /// For a client to take each part of an answer.
    public var answerSeconds = 30
    /// Open event streams, of all clients and of one; beyond: 503 resource-denied.
    public var subscribers = 64
    public var subscribersPerClient = 16
    /// Notifications that a subscriber may be behind before its stream is ended.
    public var subscriberBacklog = 1024
    /// An idle event stream carries a comment this often.
    public var keepAliveSeconds = 15.0

    public init() {}
}

/// How a server is set up.
public struct RESTCONFServerConfiguration: Sendable {
    public var host: String
    /// 0: the system chooses.
    public var port: Int
    public var files: TLSFiles
    public var access: AccessList
    public var limits: RESTCONFLimits
    /// For clients that do not quite speak RFC 8040: see `Compatibility`. Off unless asked for.
    public var compatibility: Bool
    /// Where clients reach this server (`https://node.example:8443`), for the locations of event streams; the listening address where nil.
    public var publicURL: String?

    public init(
        host: String, port: Int, files: TLSFiles, access: AccessList, limits: RESTCONFLimits = RESTCONFLimits(),
        compatibility: Bool = false, publicURL: String? = nil
    ) {
        self.host = host
        self.port = port
        self.files = files
        self.access = access
        self.limits = limits
        self.compatibility = compatibility
        self.publicURL = publicURL
    }
}
