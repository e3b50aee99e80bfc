// Pairs of applications: told when they first ask, when their terms change, when they fall silent.

import Foundation
import NodeAPI
import QKDModel

struct NodeApplication: Sendable {
    /// As many accounting intervals are shown: a day of quarters of an hour.
    static let intervalsShown = 96

    var status: StoreApplication
    /// Intervals in which it took key, oldest first. Snapshots of the store have the newest few only.
    private(set) var account: [StoreConsumption] = []
    /// Whether the store's whole account has been read.
    var isAccountWhole = false

    init(_ status: StoreApplication, after before: NodeApplication? = nil) {
        self.status = status
        (account, isAccountWhole) = (before?.account ?? [], before?.isAccountWhole ?? false)
        add(status.consumption)
    }

    /// The same interval may be seen many times; the fullest counts.
    mutating func add(_ intervals: [StoreConsumption]) {
        var byStart = Dictionary(account.map { ($0.start, $0) }) { first, _ in first }
        for interval in intervals where byStart[interval.start].map({ $0.bits <= interval.bits }) ?? true {
            byStart[interval.start] = interval
        }
        account = byStart.values.sorted { $0.start < $1.start }.suffix(Self.intervalsShown)
    }
}

extension NodeModel {
    mutating func takeApplications(_ statuses: [StoreApplication], _ now: Date, _ out: inout [NodeOutput]) {
        for status in statuses { take(status, nil, now, &out) }
        let listed = Set(statuses.map(\.id))
        applications = applications.filter { listed.contains($0.key) }
    }

    /// - Parameter kind: what the store says happened; nil for a snapshot.
    mutating func take(_ status: StoreApplication, _ kind: StoreEvent.Kind?, _ now: Date, _ out: inout [NodeOutput]) {
        let known = applications[status.id]
        let before = known?.status
        applications[status.id] = NodeApplication(status, after: known)
        // Both ends of a pair know it; the master's end, whose requests take key, is the one that tells.
        if before?.firstRequest == nil, status.firstRequest != nil, status.state == .provisional {
            out.append(.notify(.applicationNew(status, local: settings.id)))
        }
        guard let before else { return }
        if status.appID != nil, before.qos != status.qos || before.priority != status.priority {
            out.append(.notify(.applicationQoS(status)))
        }
        if before.connected, !status.connected { out.append(.notify(.applicationDisconnected(status))) }
        if !before.connected, status.connected, before.lastRequest != nil, status.appID != nil {
            out.append(.notify(.applicationEvent(status, "it asks for keys again")))
        }
    }

    /// Registered pairs whose earlier intervals nobody has asked the store for yet; a few at a time.
    var applicationsWithoutAccount: [UUID] {
        let waiting = applications.values.filter { !$0.isAccountWhole && $0.status.appID.map { desired.applications[$0] != nil } ?? false }
        return waiting.map(\.status.id).sorted { $0.uuidString < $1.uuidString }.prefix(20).map { $0 }
    }

    mutating func take(accountOf status: StoreApplication) {
        applications[status.id]?.add(status.consumption)
        applications[status.id]?.isAccountWhole = true
    }

    /// ETSI GS QKD 015 `app_status`.
    func word(_ application: StoreApplication, _ now: Date) -> String {
        if let expires = application.expires, expires <= now { return "OUT-OF-TIME" }
        if application.firstRequest == nil { return "ZOMBIE" }
        return application.connected ? "ON" : "DISCONNECTED"
    }
}
