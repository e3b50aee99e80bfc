// Where the broker is, who we are there, and how patient we are.

public import QKDModel

/// A RabbitMQ broker that a controller hosts.
public struct BrokerSettings: Sendable, Equatable {
    public struct TLS: Sendable, Equatable {
        /// PEM files: the authorities that may vouch for the broker, and our own certificate and key if it asks for them.
        public var authorities: String
        public var certificate: String?
        public var key: String?

        public init(authorities: String, certificate: String? = nil, key: String? = nil) {
            self.authorities = authorities
            self.certificate = certificate
            self.key = key
        }
    }

    public enum Identity: Sendable, Equatable {
        case password(user: String, password: String)
        /// The certificate says who we are (SASL EXTERNAL).
        case certificate
    }

    public var host: String
    public var port: Int
    public var virtualHost: String
    public var identity: Identity
    public var tls: TLS?
    public var exchange: String
    /// Seconds after which a silent broker is a lost one.
    public var heartbeatSeconds: Int
    /// Messages on their way without the broker's confirmation, at most.
    public var window: Int
    public var backOff: BackOff

    public static let exchangeName = "sdqkd.notifications"

    public init(
        host: String, port: Int, virtualHost: String = "/", identity: Identity, tls: TLS? = nil, exchange: String = exchangeName,
        heartbeatSeconds: Int = 20, window: Int = 512, backOff: BackOff = BackOff()
    ) {
        self.host = host
        self.port = port
        self.virtualHost = virtualHost
        self.identity = identity
        self.tls = tls
        self.exchange = exchange
        self.heartbeatSeconds = heartbeatSeconds
        self.window = window
        self.backOff = backOff
    }

    var address: String { "\(host):\(port)" }
}

/// How long to wait before the next attempt: doubled each time up to a limit, and spread so that the agents of a network
/// do not all come back in the same moment.
public struct BackOff: Sendable, Equatable {
    public var first: Duration
    public var most: Duration
    private var attempts = 0

    public init(first: Duration = .milliseconds(500), most: Duration = .seconds(30)) {
        self.first = first
        self.most = most
    }

    /// - Returns: between half of the step and all of it.
    public mutating func next(_ random: any RandomSource) -> Duration {
        let step = min(most, first * (1 << min(attempts, 20)))
        attempts += 1
        return step * (0.5 + 0.5 * Double(random.word() >> 11) / Double(1 << 53))
    }

    public mutating func reset() { attempts = 0 }
}
