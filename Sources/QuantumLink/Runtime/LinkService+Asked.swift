// What operators and the agent ask.

internal import Foundation
internal import Instruments
internal import Logging
public import QKDModel

/// One link with all that is known of it.
public struct LinkView: Sendable {
    public var snapshot: LinkSnapshot
    public var link: LinkServiceConfiguration.Link
    public var origin: WishOrigin
    /// Checked and kept, not running.
    public var isPrepared: Bool
}

/// One peer.
public struct PeerView: Sendable {
    public var peer: LinkServiceConfiguration.Peer
    public var origin: WishOrigin
    public var links: [LinkID]
}

extension LinkService {
    public func views() -> [LinkView] {
        let running = links.map { link, running in
            var snapshot = running.context.monitor.snapshot
            if let keys = try? database.epochs(of: link).first, let account = try? keys.account() {
                (snapshot.padForward, snapshot.padBackward) = (account.remainingForward, account.remainingBackward)
            }
            return LinkView(snapshot: snapshot, link: running.link, origin: running.origin, isPrepared: false)
        }
        let waiting = prepared.values.map { plan, reason in
            let identity = plan.settings.identity
            var snapshot = LinkSnapshot(link: identity.link, peer: identity.peer, role: identity.role)
            snapshot.reason = reason
            return LinkView(snapshot: snapshot, link: plan, origin: .request, isPrepared: true)
        }
        return (running + waiting).sorted { $0.snapshot.link < $1.snapshot.link }
    }

    public func view(of link: LinkID) -> LinkView? { views().first { $0.snapshot.link == link } }

    /// Newest last.
    public func blocks(of link: LinkID) -> [BlockReport]? {
        links[link].map { $0.context.monitor.blocks } ?? (prepared[link] == nil ? nil : [])
    }

    public func devices() -> [DeviceView] {
        configuration.devices.map { device in
            var view = deviceViews[device.name] ?? DeviceView(name: device.name, uri: device.uri)
            view.spectrum = spectra[device.name]
            view.role = view.role ?? links.values.first { $0.link.device == device.name }?.link.settings.identity.role
            return view
        }
    }

    public func links(of device: String) -> [LinkID] { links.filter { $0.value.link.device == device }.keys.sorted() }

    public func sharing() async -> [(device: String, report: SharingReport)] {
        var all: [(device: String, report: SharingReport)] = []
        for name in sharedDevices { if let station = station(sharing: name) { all.append((name, await station.report())) } }
        return all
    }

    public func peerViews() -> [PeerView] {
        peers.values.sorted { $0.peer.node < $1.peer.node }.map { peer, origin in
            PeerView(peer: peer, origin: origin, links: views().filter { $0.snapshot.peer == peer.node }.map(\.snapshot.link))
        }
    }

    /// Events from now on, of all links, also of those that come later, of devices and of peers.
    public nonisolated func events() -> AsyncStream<ServiceEvent> { hub.events() }

    // MARK: Devices

    /// One task per device follows what is seen of it.
    func watchDevices() -> [Task<Void, Never>] {
        configuration.devices.compactMap { device in
            guard let module = module(device.name) else { return nil }
            deviceViews[device.name] = DeviceView(name: device.name, uri: device.uri)
            return Task { for await event in await module.events() { await self.saw(module, event) } }
        }
    }

    private func saw(_ managed: ManagedModule, _ event: ModuleEvent) async {
        guard var view = deviceViews[managed.name] else { return }
        (view.state, view.reason) = (event.state, event.reason)
        let module = try? await managed.module()
        view.isOpen = module != nil
        if let module {
            let (identity, capabilities) = (module.identity, module.capabilities)
            (view.maker, view.model) = (identity.maker, identity.model)
            (view.serial, view.firmware) = (identity.serial.rawValue, identity.firmware)
            (view.role, view.emulated, view.paths) = (module.role, module.isEmulated, capabilities.paths)
            if capabilities.wavelengths.count == 2 { view.wavelengths = capabilities.wavelengths }
            if view.symbolRate == nil { view.symbolRate = try? await module.symbolRate() }
        }
        guard let before = deviceViews[managed.name], before != view else { return }
        deviceViews[managed.name] = view
        let change: ServiceChange = view.isOpen == before.isOpen ? .changed : view.isOpen ? .appeared : .vanished
        alarm(view, change)
        // While it is away, every attempt has its own words: said once.
        if change == .changed, !view.isOpen, before.state == view.state { return }
        let text = "\(change.rawValue): \(view.state.rawValue)" + (view.reason.isEmpty ? "" : ", \(view.reason)")
        logger.info("\(text)", metadata: ["device": "\(view.name)", "kind": "device"])
        hub.send(ServiceEvent(kind: "device", text: text, device: view.name, change: change))
    }

    /// A device that was pulled out, or says that it has a fault, is an alarm of every link that it serves. One that has not been
    /// there yet is only waited for.
    private func alarm(_ view: DeviceView, _ change: ServiceChange) {
        for running in links.values where running.link.device == view.name {
            let monitor = running.context.monitor
            if change == .vanished || view.state == .fault {
                monitor.trouble(.device, Self.trouble(of: view))
            } else if view.isOpen {
                monitor.over(.device)
            }
        }
    }
}
