// The two services as the agent's ports see them, played by the test.

import Foundation
import NodeAPI
import QKDModel
import SDNAgent
import Synchronization

final class FakeLinks: LinkServicePort {
    struct Parts {
        var status = LinkServiceStatus(node: NodeID(unchecked: "alpha"), uptimeSeconds: 1, devices: [], links: [], sharing: [])
        var plans: [LinkID: LinkPlan] = [:]
        var calls: [String] = []
        var refusal: [String: String] = [:]
        var isAway = false
    }
    let parts = Mutex(Parts())

    func change(_ body: (inout Parts) -> Void) { parts.withLock { body(&$0) } }
    var calls: [String] { parts.withLock { $0.calls } }

    private func call<R>(_ name: String, _ body: (inout Parts) -> R) throws(ServiceProblem) -> R {
        let result: Result<R, ServiceProblem> = parts.withLock { parts in
            if parts.isAway { return .failure(.away("no answer on run/linkd.sock")) }
            if let reason = parts.refusal[name] { return .failure(.refused(reason)) }
            if name != "status" && name != "plan" { parts.calls.append(name) }
            return .success(body(&parts))
        }
        return try result.get()
    }

    func status() async throws(ServiceProblem) -> LinkServiceStatus { try call("status") { $0.status } }
    func plan(of link: LinkID) async throws(ServiceProblem) -> LinkPlan {
        guard let plan = try call("plan", { $0.plans[link] }) else { throw .refused("there is no link \(link)") }
        return plan
    }
    func check(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem) { try call("check") { _ in } }
    func prepare(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem) {
        try call("prepare") { parts in
            parts.plans[link] = plan
            var status = LinkStatus(link: link, peer: plan.peer, role: plan.role, device: plan.device, state: .off, reason: "prepared")
            (status.prepared, status.origin) = (true, .request)
            parts.status.links.append(status)
        }
    }
    func commit(_ link: LinkID) async throws(ServiceProblem) {
        try call("commit") { parts in
            for index in parts.status.links.indices where parts.status.links[index].link == link {
                (parts.status.links[index].prepared, parts.status.links[index].state) = (false, .pending)
            }
        }
    }
    func setEnabled(_ isEnabled: Bool, _ link: LinkID) async throws(ServiceProblem) {
        try call(isEnabled ? "enable" : "disable") { parts in
            for index in parts.status.links.indices where parts.status.links[index].link == link {
                parts.status.links[index].enabled = isEnabled
            }
        }
    }
    func remove(_ link: LinkID) async throws(ServiceProblem) { try call("remove") { $0.status.links.removeAll { $0.link == link } } }
    func add(_ peer: LinkPeerRequest) async throws(ServiceProblem) {
        try call("add peer") {
            $0.status.peers.append(
                LinkPeer(node: peer.node, channel: peer.channel, secretName: peer.secretName, origin: .request, links: []))
        }
    }
    func remove(peer: NodeID) async throws(ServiceProblem) { try call("remove peer") { $0.status.peers.removeAll { $0.node == peer } } }
    func events() -> AsyncStream<LinkServiceEvent> { AsyncStream { _ in } }
}

final class FakeStore: StoreServicePort {
    struct Parts {
        var status = StoreStatus(
            node: NodeID(unchecked: "alpha"), uptimeSeconds: 1, deliversEmulated: true, keySizeBits: 256, links: [], peers: [],
            applications: [SAEID(unchecked: "app-alpha"), SAEID(unchecked: "app-alpha-2")], alarms: [])
        /// Done once, after a status was taken and before it is told.
        var afterStatus: (@Sendable () async -> Void)?
        var applications: [StoreApplication] = []
        var accounts: [UUID: [StoreConsumption]] = [:]
        var calls: [String] = []
        var refusal: [String: String] = [:]
        var failure: [String: String] = [:]
        var isAway = false
    }
    let parts = Mutex(Parts())

    func change(_ body: (inout Parts) -> Void) { parts.withLock { body(&$0) } }
    var calls: [String] { parts.withLock { $0.calls } }

    private func call<R>(_ name: String, _ body: (inout Parts) -> R) throws(ServiceProblem) -> R {
        let result: Result<R, ServiceProblem> = parts.withLock { parts in
            if parts.isAway { return .failure(.away("no answer on run/lkmsd.sock")) }
            if let reason = parts.refusal[name] { return .failure(.refused(reason)) }
            if let reason = parts.failure[name] { return .failure(.failed(reason)) }
            if name != "status" { parts.calls.append(name) }
            return .success(body(&parts))
        }
        return try result.get()
    }

    func status() async throws(ServiceProblem) -> StoreStatus {
        let status = try call("status") { $0.status }
        let then = parts.withLock { parts in
            defer { parts.afterStatus = nil }
            return parts.afterStatus
        }
        await then?()
        return status
    }
    func applications() async throws(ServiceProblem) -> [StoreApplication] { try call("status") { $0.applications } }
    /// Unlike its snapshots, with all intervals.
    func application(_ id: UUID) async throws(ServiceProblem) -> StoreApplication {
        let found = try call("status") { parts in
            parts.applications.first { $0.id == id }.map { application in
                var whole = application
                whole.consumption = parts.accounts[id] ?? application.consumption
                return whole
            }
        }
        guard let found else { throw .refused("there is no application \(id)") }
        return found
    }
    func add(_ peer: StorePeerPlan) async throws(ServiceProblem) {
        try call("add peer") {
            $0.status.peers.append(
                StorePeerStatus(
                    peer: peer.node, state: .connecting, km: peer.km, certificateName: peer.certificateName, addedAtRunTime: true,
                    applications: peer.applications))
        }
    }
    func remove(peer: NodeID) async throws(ServiceProblem) { try call("remove peer") { $0.status.peers.removeAll { $0.peer == peer } } }
    func register(_ plan: StoreApplicationPlan) async throws(ServiceProblem) {
        try call("register") { parts in
            for index in parts.applications.indices
            where parts.applications[index].server == plan.server && parts.applications[index].client == plan.client {
                parts.applications[index].appID = plan.change.appID
                parts.applications[index].state = .registered
                if let qos = plan.change.qos { parts.applications[index].qos = qos }
            }
        }
    }
    func forget(_ application: UUID) async throws(ServiceProblem) {
        try call("forget") { $0.applications.removeAll { $0.appID == application } }
    }
    func events() -> AsyncStream<StoreEvent> { AsyncStream { _ in } }
}
