// What happens in a link service: links, devices, peers; handed to any number of listeners.

public import Foundation
public import QKDModel
internal import Synchronization

/// What became of a device, link or peer.
public enum ServiceChange: String, Sendable {
    case appeared, changed, vanished
    case prepared, committed, enabled, disabled, removed
    case added
}

/// Where a link or peer comes from.
public enum WishOrigin: String, Sendable { case file, request }

public struct ServiceEvent: Sendable {
    public var time = Date()
    /// `state`, `slot`, `block`, `alarm`, `channel`, `device`, `link`, `peer`.
    public var kind: String
    public var text: String
    public var link: LinkID?
    /// The link's, or the one that the event is about.
    public var device: String?
    public var peer: NodeID?
    public var block: BlockReport?
    public var change: ServiceChange?
    /// The link with its event; as it was, when it is removed.
    public var snapshot: LinkSnapshot?
}

/// One device as it was last seen.
public struct DeviceView: Sendable, Equatable {
    public var name: String
    public var uri: String
    public var state = DeviceState.off
    public var reason = "not started"
    public var isOpen = false
    public var role: DeviceRole?
    public var maker: String?
    public var model: String?
    public var serial: String?
    public var firmware: String?
    public var emulated: Bool?
    /// Hz
    public var symbolRate: Double?
    public var paths: [String] = []
    /// Shortest and longest wavelength of its carrier, nm.
    public var wavelengths: [Double]?
    /// What its optical spectrum analyser saw last.
    public var spectrum: SpectrumSummary?

    init(name: String, uri: String) {
        self.name = name
        self.uri = uri
    }
}

/// Events to listeners; one that does not read loses the oldest.
final class EventHub: Sendable {
    private let listeners = Mutex<[UUID: AsyncStream<ServiceEvent>.Continuation]>([:])

    func send(_ event: ServiceEvent) {
        for listener in listeners.withLock({ Array($0.values) }) { listener.yield(event) }
    }

    func events() -> AsyncStream<ServiceEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: ServiceEvent.self, bufferingPolicy: .bufferingNewest(1024))
        let id = UUID()
        listeners.withLock { $0[id] = continuation }
        continuation.onTermination = { [weak self] _ in self?.listeners.withLock { $0[id] = nil } }
        return stream
    }
}
