// The service's own look at its links: what no session sees because there is none, or because it lasts.

internal import Foundation
internal import Logging
public import QKDModel

extension LinkService {
    /// Until cancelled.
    func watchLinks() async {
        while (try? await Task.sleep(for: .seconds(1))) != nil {
            for running in links.values { running.context.monitor.look(facts(of: running)) }
        }
    }

    private func facts(of running: Running) -> LinkHealth.Facts {
        let snapshot = running.context.monitor.snapshot
        let isTransmitter = running.context.settings.identity.role == .transmitter
        var facts = LinkHealth.Facts()
        facts.isConnected = snapshot.connected
        facts.hasPad = !snapshot.alarms.contains { $0.kind == AlarmKind.pad.rawValue }
        if let view = deviceViews[running.link.device] {
            (facts.device, facts.deviceReason) = (view.isOpen ? view.state : .off, Self.trouble(of: view))
        }
        if isTransmitter, !snapshot.receiverReady, !snapshot.receiverReason.isEmpty {
            facts.receiver = "the far end's receiver is not ready: \(snapshot.receiverReason)"
            facts.isCalibrating = snapshot.receiverReason.hasPrefix("calibrating") || snapshot.receiverReason.contains("is missing")
        }
        // The transmitter's end says itself why it begins no block.
        facts.hasBlock = isTransmitter || snapshot.stage.map { ![.deposited, .void].contains($0) } ?? false
        return facts
    }

    static func trouble(of view: DeviceView) -> String {
        "\(view.name) is \(view.state.rawValue)" + (view.reason.isEmpty ? "" : ": \(view.reason)")
    }

    /// An operator has seen the alarms that last until then, and says that the link's receiver is right as it is now.
    public func acknowledge(_ link: LinkID) async throws {
        guard let running = links[link] else { throw QuantumLinkError.configuration("there is no running link '\(link)'") }
        running.context.monitor.acknowledge()
        await receiver(of: link)?.acknowledge()
        logger.notice("alarms were acknowledged", metadata: ["link": "\(link)", "kind": "alarm"])
    }
}
