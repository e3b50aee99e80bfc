// Peers that come and go while the store runs.

public import Foundation
import KeyMaterial
import Logging
public import QKDModel
import Synchronization

extension KeyStoreService {
    /// The link to a peer, if it is one.
    package func link(to peer: NodeID) -> KMPeer? { book[peer]?.link }

    /// Adds a peer, or gives one that was added before other values; durable before it returns.
    ///
    /// - Throws: `KeyStoreError.configuration` where the plan cannot be, `.secret` where its file cannot be used.
    public func add(_ plan: PeerPlan) async throws {
        try await changing.alone {
            let path = try check(plan)
            if book[plan.node]?.added == plan { return }
            // Both before anything changes: a secret that cannot be read or an application that is taken refuses all of it.
            _ = try SecretFile.readPair(path)
            let before = directory.applications(of: plan.node)
            try directory.set(plan.applications, of: plan.node)
            do {
                book.remove(plan.node)?.link.leave()
                try join(plan.node, plan.address, plan.certificateName, secret: path, added: plan)
                try await store.change { try $0.save(plan) }
            } catch {
                book.remove(plan.node)?.link.leave()
                try? directory.set(before, of: plan.node)
                try rejoin(plan.node)
                throw error
            }
            journal.note(.peerAdded, peer: plan.node, "\(plan.node) is a peer")
            logger.info("peer added", metadata: ["peer": "\(plan.node)", "address": "\(plan.address)"])
        }
    }

    /// Removes a peer that was added. Its key stays in store, out of reach, until it comes back or its links are zeroised.
    ///
    /// - Throws: `KeyStoreError.unknownPeer`, or `.configuration` where the configuration file has it.
    public func removePeer(_ node: NodeID) async throws {
        try await changing.alone {
            guard let entry = book[node] else { throw KeyStoreError.unknownPeer(node) }
            guard entry.added != nil else {
                throw KeyStoreError.configuration("peer \(node) stands in the configuration file: remove it there and restart")
            }
            try await store.change { try $0.forgetPeer(node) }
            book.remove(node)?.link.leave()
            try directory.set([], of: node)
            for kind in [StoreAlarmRecord.Kind.peerUnreachable, .tagRefused, .padLow, .keyMismatch, .database] {
                journal.clear(kind, peer: node)
            }
            journal.note(.peerRemoved, peer: node, "\(node) is no peer any more")
            logger.info("peer removed", metadata: ["peer": "\(node)"])
        }
    }

    /// What the database still has of a peer whose change failed.
    private func rejoin(_ node: NodeID) throws {
        guard let plan = try store.changeNow({ try $0.addedPeers() }).first(where: { $0.node == node }) else { return }
        try directory.set(plan.applications, of: node)
        try join(node, plan.address, plan.certificateName, secret: try check(plan), added: plan)
    }

    /// - Returns: the path of its secret.
    func check(_ plan: PeerPlan) throws -> String {
        func refuse(_ what: String) -> KeyStoreError { .configuration(what) }
        guard plan.node != configuration.node else { throw refuse("node \(plan.node) cannot be its own peer") }
        guard !configuration.peers.contains(where: { $0.node == plan.node }) else {
            throw refuse("peer \(plan.node) stands in the configuration file: change it there")
        }
        guard (1...255).contains(plan.address.host.utf8.count), plan.address.port > 0 else {
            throw refuse("km '\(plan.address)' is no address")
        }
        guard (1...255).contains(plan.certificateName.utf8.count) else { throw refuse("a certificate name of 1 to 255 bytes is needed") }
        let others = book.all.values.map(\.link.settings).filter { $0.peer != plan.node }
        if let other = others.first(where: { $0.certificateName == plan.certificateName }) {
            throw refuse("certificate name \(plan.certificateName) belongs to peer \(other.peer) already")
        }
        guard let folder = configuration.secrets else {
            throw refuse("no peer can be added: the configuration names no folder of secrets ('secrets')")
        }
        let name = plan.secret
        guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/"), !name.contains("\0"), name.utf8.count <= 255 else {
            throw refuse("'\(name)' is no plain file name: secrets are named, not pathed")
        }
        return folder + "/" + name
    }

    /// Registers a pair of applications, one of this node and one of a peer.
    public func register(server: SAEID, client: SAEID, _ change: ApplicationChange) async throws -> ApplicationReport {
        guard let from = directory.home(of: server) else { throw KeyStoreError.configuration("SAE \(server) is not known here") }
        guard let to = directory.home(of: client) else { throw KeyStoreError.configuration("SAE \(client) is not known here") }
        let own = configuration.node
        guard (from == own) != (to == own) else {
            throw KeyStoreError.configuration("one of \(server) and \(client) has to be served by this node, the other by a peer")
        }
        let record = try await applications.register(
            server: server, client: client, peer: from == own ? to : from, servesServer: from == own, change)
        return try await present(record.id)
    }

    /// - Throws: `KeyStoreError.noSuchApplication`.
    public func alterApplication(_ id: UUID, _ change: ApplicationChange) async throws -> ApplicationReport {
        guard let record = try await applications.alter(id, change, registers: true) else { throw KeyStoreError.noSuchApplication(id) }
        return try await present(record.id)
    }

    public func forgetApplication(_ id: UUID) async throws -> ApplicationReport {
        guard let report = try await applications.forget(id) else { throw KeyStoreError.noSuchApplication(id) }
        return report
    }

    public func applicationReports(intervals: Int = 8) async throws -> [ApplicationReport] {
        try await applications.reports(intervals: intervals)
    }

    public func applicationReport(_ id: UUID) async throws -> ApplicationReport { try await present(id) }

    private func present(_ id: UUID) async throws -> ApplicationReport {
        guard let report = try await applications.report(id, intervals: 96) else { throw KeyStoreError.noSuchApplication(id) }
        return report
    }
}

/// Lets one asynchronous body in at a time.
final class AsyncLock: Sendable {
    private let state = Mutex<(taken: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))

    func alone<T: Sendable>(_ body: () async throws -> T) async throws -> T {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.taken {
                    state.waiting.append(continuation)
                    return false
                }
                state.taken = true
                return true
            }
            if isFree { continuation.resume() }
        }
        defer {
            state.withLock { state -> CheckedContinuation<Void, Never>? in
                if state.waiting.isEmpty { state.taken = false }
                return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
            }?.resume()
        }
        return try await body()
    }
}
