// Alarms of both services: each told once when it is raised and once when it is over.

import Foundation
import NodeAPI
import QKDModel

struct NodeAlarm: Sendable {
    struct Key: Hashable, Sendable {
        /// `link`, `store`, `agent`.
        var source: String
        var kind: String
        var subject: String
    }
    var link: UUID?
    var severity: Severity
    var message: String
}

extension NodeModel {
    mutating func takeAlarms(of status: LinkStatus, _ id: UUID, _ now: Date, _ out: inout [NodeOutput]) {
        let raised = status.alarms.map {
            (NodeAlarm.Key(source: "link", kind: $0.kind, subject: "\(id)"), NodeAlarm(link: id, severity: $0.severity, message: $0.text))
        }
        compare(raised, where: { $0.source == "link" && $0.subject == "\(id)" }, &out)
    }

    mutating func clearAlarms(ofLink id: UUID, _ now: Date, _ out: inout [NodeOutput]) {
        compare([], where: { $0.source == "link" && $0.subject == "\(id)" }, &out)
    }

    mutating func takeStoreAlarms(_ statuses: [StoreAlarm], _ now: Date, _ out: inout [NodeOutput]) {
        let raised = statuses.map { alarm in
            let subject = alarm.link.map { "\($0)" } ?? alarm.peer.map { "\($0)" } ?? ""
            // An alarm of a peer is told with a link to that peer, where there is one.
            let link =
                alarm.link.map(linkUUID)
                ?? links.values.filter { $0.status?.peer == alarm.peer && alarm.peer != nil }.map(\.id).min {
                    $0.uuidString < $1.uuidString
                }
            return (
                NodeAlarm.Key(source: "store", kind: alarm.kind, subject: subject),
                NodeAlarm(link: link, severity: alarm.severity, message: "key store: \(alarm.message)")
            )
        }
        compare(raised, where: { $0.source == "store" }, &out)
    }

    mutating func take(lost count: UInt64, _ now: Date, _ out: inout [NodeOutput]) {
        defer { lost = count }
        guard count > lost else { return }
        let alarm = NodeAlarm(link: nil, severity: .major, message: "\(count - lost) notifications were lost: the outbox was full")
        out.append(.notify(.alarm(alarm, state: nil)))
    }

    /// A file that is wrong is an alarm until it is right; new rules are an event.
    mutating func take(accessRules problem: String?, _ out: inout [NodeOutput]) {
        let key = NodeAlarm.Key(source: "agent", kind: "access-rules", subject: problem ?? "")
        let alarm = problem.map { NodeAlarm(link: nil, severity: .major, message: "the old access rules stay in force: \($0)") }
        compare(alarm.map { [(key, $0)] } ?? [], where: { $0.source == "agent" && $0.kind == "access-rules" }, &out)
        if problem == nil {
            out.append(.notify(.nodeEvent("new access rules are in force")))
        }
    }

    /// Stands until the agent is started again: it is for somebody to look at, and nothing mends it by itself.
    mutating func take(lost files: [String], _ reason: String, isWhole: Bool, _ out: inout [NodeOutput]) {
        let what =
            isWhole
            ? "the kept configuration could not be used and the initial one is in force"
            : "the last changes of the configuration are lost and what came before them is in force"
        let message = "\(what): \(reason); set aside: \(files.joined(separator: ", "))"
        let key = NodeAlarm.Key(source: "agent", kind: "configuration", subject: "")
        compare([(key, NodeAlarm(link: nil, severity: .major, message: message))], where: { $0 == key }, &out)
    }

    private mutating func compare(
        _ raised: [(NodeAlarm.Key, NodeAlarm)], where isMine: (NodeAlarm.Key) -> Bool, _ out: inout [NodeOutput]
    ) {
        for (key, alarm) in raised {
            if alarms[key]?.severity != alarm.severity {
                out.append(.notify(.alarm(alarm, state: alarm.link.flatMap { links[$0]?.told })))
            }
            alarms[key] = alarm
        }
        let kept = Set(raised.map(\.0))
        for (key, alarm) in alarms where isMine(key) && !kept.contains(key) {
            alarms[key] = nil
            out.append(.notify(.over(alarm, state: alarm.link.flatMap { links[$0]?.told })))
        }
    }
}
