// What both ends' sessions are made of.

internal import Foundation
package import QKDModel

/// Everything a session of one end works with; lives longer than any connection.
package struct SessionContext: Sendable {
    package var settings: LinkSettings
    package var database: LinkDatabase
    package var monitor: LinkMonitor
    package var random: any RandomSource
    package var clock: any LinkClock
    /// Where a recording takes what enters and leaves the session's state machines; nil: nothing is recorded.
    package var tap: (any LinkTap)?
    /// Called when a block is committed and waits for deposit.
    package var committed: @Sendable () -> Void

    package init(
        settings: LinkSettings, database: LinkDatabase, monitor: LinkMonitor, random: any RandomSource,
        clock: any LinkClock = MonotonicClock(),
        tap: (any LinkTap)? = nil, committed: @escaping @Sendable () -> Void
    ) {
        self.settings = settings
        self.database = database
        self.monitor = monitor
        // What is drawn is an input too.
        self.random = tap.map { TappedRandom(random, $0) } ?? random
        self.tap = tap
        self.clock = clock
        self.committed = committed
    }

    var link: LinkID { settings.identity.link }
}

/// One connection of one end, from the handshake to whatever ends it.
package enum LinkConversation {
    package static func transmitter(
        _ pipe: any MessagePipe, context: SessionContext, station: TransmitterStation, seats: [DecodingSeat],
        established: @Sendable () async -> Void = {}
    ) async throws {
        try await told(context) {
            let (channel, keys) = try await handshake(pipe, context)
            context.monitor.connected()
            await established()
            context.monitor.update { $0.connected = true }
            defer { context.monitor.update { $0.connected = false } }
            try await TransmitterSession(channel: channel, context: context, station: station, keys: keys, seats: seats).run()
        }
    }

    /// What ends a connection may be an alarm.
    private static func told(_ context: SessionContext, _ body: () async throws -> Void) async throws {
        do { try await body() } catch {
            context.monitor.ended(error)
            throw error
        }
    }

    package static func receiver(_ pipe: any MessagePipe, context: SessionContext, station: ReceiverStation) async throws {
        let (channel, keys): (AuthenticatedChannel, EpochKeys)
        do { (channel, keys) = try await handshake(pipe, context) } catch {
            context.monitor.ended(error)
            throw error
        }
        try await receiver(channel, keys, context: context, station: station)
    }

    /// Behind a handshake that is done.
    static func receiver(
        _ channel: AuthenticatedChannel, _ keys: EpochKeys, context: SessionContext, station: ReceiverStation
    ) async throws {
        context.monitor.connected()
        context.monitor.update { $0.connected = true }
        defer { context.monitor.update { $0.connected = false } }
        try await told(context) { try await ReceiverSession(channel: channel, context: context, station: station, keys: keys).run() }
    }

    static func handshake(_ pipe: any MessagePipe, _ context: SessionContext) async throws -> (AuthenticatedChannel, EpochKeys) {
        let channel = AuthenticatedChannel(pipe, tap: context.tap)
        do {
            let keys = try await withTimeout(.seconds(10), "the handshake") {
                try await channel.handshake(context.settings.identity, database: context.database, random: context.random)
            }
            // Blocks in doubt may have been settled.
            context.committed()
            return (channel, keys)
        } catch {
            // Whoever lost its state to an old copy must learn why nobody talks to it.
            if case QuantumLinkError.padPosition = error { channel.send(.bye(LinkHealth.refusedPosition)) }
            if case QuantumLinkError.tagFailed = error { channel.object(to: error) }
            channel.close()
            throw error
        }
    }
}

/// Raised inside a slot: the slot is over, the connection goes on.
struct SlotOver: Error {
    var reason: String

    /// The reason of a slot whose symbols came faster than they were taken; both ends know it by these words.
    static let noLock = "no light: the receiver's pilot has not locked for 10 s"
    static let overrun = "symbols were lost: they came faster than they were taken"
}

/// The next message of a slot's conversation.
/// - Throws: `SlotOver` when the far end has ended the slot, or on time-out.
func nextSlotMessage(_ inbox: MessageQueue<ChannelMessage>, within limit: Duration, waitingFor what: String) async throws -> ChannelMessage
{
    let message = try await withTimeout(limit, "\(what) from the far end") { await inbox.next() }
    guard let message else { throw SlotOver(reason: "the slot was closed") }
    if case .slotEnd(_, _, let reason) = message { throw SlotOver(reason: reason) }
    return message
}

/// Sends signs of life and looks for the far end's until cancelled.
/// - Throws: `timedOut` when nothing came for too long.
func keepAlive(_ channel: AuthenticatedChannel, _ patience: LinkSettings.Patience, also: @Sendable () async -> Void = {}) async throws {
    while true {
        try await Task.sleep(for: patience.aliveEvery)
        if let silence = channel.silence, silence > patience.silence {
            throw QuantumLinkError.timedOut("any message from the far end")
        }
        channel.sendAlive()
        await also()
    }
}

/// Runs `body`, at most so long.
func withTimeout<R: Sendable>(_ limit: Duration, _ what: String, _ body: @escaping @Sendable () async throws -> R) async throws -> R {
    try await withThrowingTaskGroup(of: R.self) { group in
        group.addTask(operation: body)
        group.addTask {
            try await Task.sleep(for: limit)
            throw QuantumLinkError.timedOut(what)
        }
        defer { group.cancelAll() }
        guard let first = try await group.next() else { throw CancellationError() }
        return first
    }
}

/// Three significant digits.
func threeDigits(_ value: Double) -> Double {
    guard value != 0, value.isFinite else { return value }
    let unit = pow(10, log10(abs(value)).rounded(.down) - 2)
    return (value / unit).rounded() * unit
}

func describe(_ error: any Error) -> String {
    switch error {
    case let over as SlotOver: over.reason
    case is CancellationError: "stopped"
    default: "\(error)"
    }
}

/// A fresh random block id (RFC 9562 version 4).
func freshBlockID(_ random: any RandomSource) -> BlockID {
    var bytes = random.bytes(16)
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    return BlockID(UUID(uuid: bytes.withUnsafeBytes { $0.loadUnaligned(as: uuid_t.self) }))
}
