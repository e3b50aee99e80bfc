// The connections that are open, and whose they are.

import Foundation
import NIOCore
import Synchronization

/// One connection, as its requests see it.
struct Connection: Sendable {
    /// Where it comes from.
    var address: String
    /// The names of the client's certificate; empty until the handshake is over.
    var names: [String] = []
    /// It is beyond the limit: its first request is refused.
    var isSurplus: Bool

    /// Under which the client's requests and streams are counted.
    var client: String { names.first ?? address }
}

/// All open connections of a server. The certificate is read once for each: to parse it for every request costs a third of the throughput.
final class Connections: Sendable {
    private let limit: Int
    private let open = Mutex<[ObjectIdentifier: Connection]>([:])

    init(limit: Int) { self.limit = limit }

    var count: Int { open.withLock { $0.count } }

    subscript(_ channel: any Channel) -> Connection? { open.withLock { $0[ObjectIdentifier(channel)] } }

    func opened(_ channel: any Channel) {
        let address = channel.remoteAddress?.ipAddress ?? "unknown"
        open.withLock { $0[ObjectIdentifier(channel)] = Connection(address: address, isSurplus: $0.count >= limit) }
    }

    func identified(_ channel: any Channel, names: [String]) {
        open.withLock { $0[ObjectIdentifier(channel)]?.names = names }
    }

    func closed(_ channel: any Channel) {
        _ = open.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) }
    }
}

/// Lets one message a second through and counts the others: whoever knocks without a certificate shall not fill the log.
final class QuietLog: Sendable {
    private let state = Mutex<(last: ContinuousClock.Instant?, suppressed: Int)>((nil, 0))

    /// - Returns: how many messages were left out since the last one, or nil where this one is to be left out too.
    func mayWrite(now: ContinuousClock.Instant = .now) -> Int? {
        state.withLock { state in
            if let last = state.last, last.duration(to: now) < .seconds(1) {
                state.suppressed += 1
                return nil
            }
            defer { state = (now, 0) }
            return state.suppressed
        }
    }
}
