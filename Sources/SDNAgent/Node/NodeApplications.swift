// Pairs of applications: told when they first ask, when their terms change, when they fall silent.

import Foundation
import NodeAPI
import QKDModel

struct NodeApplication: Sendable {
    var status: StoreApplication
}

extension NodeModel {
    mutating func takeApplications(_ statuses: [StoreApplication], _ now: Date, _ out: inout [NodeOutput]) {
        for status in statuses { take(status, nil, now, &out) }
        let listed = Set(statuses.map(\.id))
        applications = applications.filter { listed.contains($0.key) }
    }

    /// - Parameter kind: what the store says happened; nil for a snapshot.
    mutating func take(_ status: StoreApplication, _ kind: StoreEvent.Kind?, _ now: Date, _ out: inout [NodeOutput]) {
        let before = applications[status.id]?.status
        applications[status.id] = NodeApplication(status: status)
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

    /// ETSI GS QKD 015 `app_status`.
    func word(_ application: StoreApplication, _ now: Date) -> String {
        if let expires = application.expires, expires <= now { return "OUT-OF-TIME" }
        if application.firstRequest == nil { return "ZOMBIE" }
        return application.connected ? "ON" : "DISCONNECTED"
    }
}
