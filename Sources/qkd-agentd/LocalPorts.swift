// The two services behind their local sockets.

import Foundation
import NodeAPI
import NodeRuntime
import QKDModel
import SDNAgent

/// Turns what the local client throws into the agent's kinds of problem.
private func asking<R>(_ body: () async throws -> R) async throws(ServiceProblem) -> R {
    do { return try await body() } catch let error as NodeRuntimeError {
        switch error {
        case .refused(let status, let message): throw status >= 500 ? .failed(message) : .refused(message)
        default: throw .away(error.description)
        }
    } catch {
        throw .away("\(error)")
    }
}

private func place(_ route: String, _ id: String) -> String {
    route.replacing(":id", with: id.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(.init(charactersIn: "-_."))) ?? id)
}

/// What stands in the events of `client`, until the service goes away.
private func events<T: Decodable & Sendable>(_ client: LocalClient, _ path: String, _ type: T.Type) -> AsyncStream<T> {
    let (stream, out) = AsyncStream.makeStream(of: T.self, bufferingPolicy: .bufferingNewest(4096))
    let task = Task {
        do {
            for try await event in client.events(path) {
                if let value = try? event.decode(T.self) { out.yield(value) }
            }
        } catch {
            // That it went away is seen by the next question, too.
        }
        out.finish()
    }
    out.onTermination = { _ in task.cancel() }
    return stream
}

struct LocalLinkService: LinkServicePort {
    let client: LocalClient

    func status() async throws(ServiceProblem) -> LinkServiceStatus { try await asking { try await client.get(LinkRoutes.status) } }
    func plan(of link: LinkID) async throws(ServiceProblem) -> LinkPlan {
        try await asking { try await client.get(place(LinkRoutes.plan, link.rawValue)) }
    }
    func check(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem) {
        let _: LinkPlan = try await asking { try await client.post(place(LinkRoutes.check, link.rawValue), plan) }
    }
    func prepare(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem) {
        let _: LinkStatus = try await asking { try await client.post(place(LinkRoutes.prepare, link.rawValue), plan) }
    }
    func commit(_ link: LinkID) async throws(ServiceProblem) { try await post(LinkRoutes.commit, link) }
    func remove(_ link: LinkID) async throws(ServiceProblem) { try await post(LinkRoutes.remove, link) }
    func setEnabled(_ isEnabled: Bool, _ link: LinkID) async throws(ServiceProblem) {
        try await post(isEnabled ? LinkRoutes.enable : LinkRoutes.disable, link)
    }
    func add(_ peer: LinkPeerRequest) async throws(ServiceProblem) {
        let _: LinkPeer = try await asking { try await client.post(LinkRoutes.peers, peer) }
    }
    func remove(peer: NodeID) async throws(ServiceProblem) {
        let _: LinkPeer = try await asking { try await client.delete(place(LinkRoutes.peer, peer.rawValue)) }
    }
    func events() -> AsyncStream<LinkServiceEvent> { qkd_agentd.events(client, LinkRoutes.events, LinkServiceEvent.self) }

    private func post(_ route: String, _ link: LinkID) async throws(ServiceProblem) {
        let _: LinkStatus = try await asking { try await client.post(place(route, link.rawValue)) }
    }
}

struct LocalStore: StoreServicePort {
    let client: LocalClient

    func status() async throws(ServiceProblem) -> StoreStatus { try await asking { try await client.get(StoreRoutes.status) } }
    func applications() async throws(ServiceProblem) -> [StoreApplication] {
        try await asking { try await client.get(StoreRoutes.applications) }
    }
    func application(_ id: UUID) async throws(ServiceProblem) -> StoreApplication {
        try await asking { try await client.get(place(StoreRoutes.application, id.uuidString)) }
    }
    func add(_ peer: StorePeerPlan) async throws(ServiceProblem) {
        let _: StorePeerStatus = try await asking { try await client.post(StoreRoutes.peers, peer) }
    }
    func remove(peer: NodeID) async throws(ServiceProblem) {
        let _: StorePeerStatus = try await asking { try await client.delete(place(StoreRoutes.peer, peer.rawValue)) }
    }
    func register(_ plan: StoreApplicationPlan) async throws(ServiceProblem) {
        let _: StoreApplication = try await asking { try await client.post(StoreRoutes.applications, plan) }
    }
    func forget(_ application: UUID) async throws(ServiceProblem) {
        let _: StoreApplication = try await asking { try await client.delete(place(StoreRoutes.application, application.uuidString)) }
    }
    func events() -> AsyncStream<StoreEvent> { qkd_agentd.events(client, StoreRoutes.events, StoreEvent.self) }
}
