// This node as ETSI GS QKD 015 data, for any SDN controller.
//
// - `Node/`: a state machine without I/O. In go the snapshots and events of `qkd-linkd` and `qkd-lkmsd` (NodeAPI) and the
//   controller's configuration; out come YANG data (JSON of RFC 7951) and notifications.
// - `Configuration/`: the way back. A change of the running configuration becomes steps at the two services, in two
//   phases; what is configured and what the services have is compared again whenever one of them comes back.
// - `Notifications/`: one source, several sinks. Each sink that can be away has a durable, bounded outbox.
// - `RabbitMQ/`: the sink for controllers that host a broker (docs/wire/notifications.md), on a thread of its own.
//
// Nothing here can hold a key: the agent learns counts, rates and states from NodeAPI, and no target that knows key
// material stands in its closure (scripts/check-layers and a test of the built program).
//
// Sources: ETSI GS QKD 015 V2.1.1, RFC 8040, RFC 7951, AMQP 0-9-1 with RabbitMQ's publisher confirms.

/// What can be wrong at the agent.
public enum SDNAgentError: Error, Equatable, CustomStringConvertible {
    /// The outbox's file cannot be used.
    case outbox(path: String, reason: String)
    /// The broker cannot be reached, or broke off.
    case broker(address: String, reason: String)
    /// The agent's own durable notes cannot be used.
    case state(path: String, reason: String)
    /// Another process has the state folder; its id where it is known.
    case inUse(path: String, pid: Int32?)

    public var description: String {
        switch self {
        case .outbox(let path, let reason): "the outbox \(path) cannot be used: \(reason)"
        case .broker(let address, let reason): "the broker at \(address): \(reason)"
        case .state(let path, let reason): "the agent's state in \(path) cannot be used: \(reason)"
        case .inUse(let path, let pid):
            "the state folder \(path) is in use by another process\(pid.map { " (pid \($0))" } ?? ""): "
                + "stop it, or give this agent a folder of its own"
        }
    }
}
