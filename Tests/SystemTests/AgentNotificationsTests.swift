// Every notification of ETSI GS QKD 015, each from something that really happened, over both sinks, read by another program's validator.

import Foundation
import Glibc
import Testing

/// Debian's rabbitmq-server on loopback, and a consumer that is not ours.
private final class LoopbackBroker {
    let port: Int
    private let scratch: Scratch
    private let server: Running

    init() async throws {
        scratch = try Scratch()
        port = try AgentBed.freePort()
        // In a session of its own, so that its children can be ended with it.
        server = try Running([
            "/usr/bin/setsid", Programs.root + "/scripts/loopback-broker", scratch.path + "/broker", "\(port)",
            "\(try AgentBed.freePort())", "\(try AgentBed.freePort())",
        ])
        let log = scratch.path + "/broker/log/start"
        let isUp = await eventually(within: .seconds(90)) {
            (try? String(contentsOfFile: log, encoding: .utf8))?.contains("completed") ?? false
        }
        try #require(isUp, "rabbitmq-server does not start: \(server.errors) \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
    }

    deinit { kill(-server.pid, SIGKILL) }

    func consumer(_ verb: String, _ more: String...) async throws -> String {
        let command = [
            Programs.root + "/.venv/bin/python", Programs.root + "/Tests/SystemTests/clients/amqp_consumer.py", verb,
            "amqp://guest:guest@127.0.0.1:\(port)/", "sdqkd.notifications", "controller",
        ]
        let outcome = await (try Running(command + more)).end(within: .seconds(60))
        try #require(outcome.status == 0, "\(outcome)")
        return outcome.output
    }
}

/// One notification as a receiver has it.
private struct Told: CustomStringConvertible {
    let name: String
    let whole: Tree
    var contents: Tree { whole[name] }

    init?(_ text: some StringProtocol) {
        whole = Tree(String(text))["ietf-restconf:notification"]
        guard whole["eventTime"].text != nil, let name = whole.keys.first(where: { $0 != "eventTime" }) else { return nil }
        self.name = name
    }

    var description: String { "\(name.split(separator: ":").last ?? ""): \(contents)" }
}

@Suite(.serialized) struct AgentNotificationsTests {
    private static let names: Set<String> = [
        "sdqkdn_application_new", "sdqkdn_application_qos_update", "sdqkdn_application_disconnected", "sdqkdn_interface_new",
        "sdqkdn_interface_down", "sdqkdn_interface_out", "sdqkdn_link_down", "sdqkdn_link_perf_update", "sdqkdn_link_overloaded",
        "alarm", "event",
    ]

    @Test(
        "every notification from a real event, alike over event streams and RabbitMQ, accepted by yanglint", .timeLimit(.minutes(5)))
    func everyNotification() async throws {
        let broker = try await LoopbackBroker()
        let bed = try await AgentBed(
            bare: false,
            agent: "thresholds: { link_down_hold: 0.3, overload_hold: 0.5, interface_out_after: 2, performance_interval: 0.5 }\n",
            store: "policy: { accounting_seconds: 2, idle_seconds: 2 }\n")
        try bed.change("alpha", "agentd") {
            $0 + "rabbitmq: { address: \"127.0.0.1:\(broker.port)\", user: guest, password_file: secrets/rabbitmq }\n"
        }
        let password = bed.folder + "/alpha/secrets/rabbitmq"
        try Data("guest\n".utf8).write(to: URL(filePath: password))
        chmod(password, 0o600)
        _ = try await broker.consumer("bind")
        let began = Date(timeIntervalSinceNow: -2).formatted(.iso8601)
        try bed.startAll()
        try #require(try await eventually(within: .seconds(30)) { try await bed.node("alpha").value != nil }, "\(bed.words)")
        // As an operator, who reads and nothing else.
        let stream = try Running(
            bed.curl(
                "operator", ["--no-buffer", "--max-time", "280", try bed.agent("alpha") + "/streams/NETCONF/json?start-time=\(began)"]))
        func told() -> [Told] {
            stream.output.split(separator: "\n").compactMap { $0.hasPrefix("data: ") ? Told($0.dropFirst(6)) : nil }
        }
        func hear(_ name: String, within limit: Duration = .seconds(20), after count: Int = 0, _ part: String = "") async {
            let came = await eventually(within: limit) {
                told().dropFirst(count).contains { $0.name.hasSuffix(":\(name)") && (part.isEmpty || "\($0)".contains(part)) }
            }
            #expect(came, "no \(name) \(part); there were \(told().map(\.name)) \(stream.errors)\n\(bed.words)")
        }

        await hear("sdqkdn_interface_new", "TRANSMITTER")
        await hear("event", within: .seconds(60), "makes key")
        await hear("sdqkdn_link_perf_update", within: .seconds(120))
        try await applications(bed) { await hear($0) }

        await bed.stop("beta-lkmsd")
        await hear("alarm", "key store")
        var before = told().count
        try bed.start("beta-lkmsd")
        await hear("event", within: .seconds(40), after: before, "over: key store")

        let id = try await bed.link("alpha")["qkdl_id"].text ?? ""
        before = told().count
        let disabled = try await bed.send(
            "PATCH", "alpha", AgentBed.node + "/qkd_links/qkd_link=\(id)",
            #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(id)","qkdl_enable":false}]}"#)
        #expect(disabled.status == 204, "\(disabled)")
        await hear("sdqkdn_link_down", after: before)
        #expect(try await bed.link("alpha")["qkdl_status"].word == "OFF")

        // As if the devices were unplugged, and plugged in again.
        await bed.stop("emulator")
        await hear("sdqkdn_interface_down", within: .seconds(40), after: before)
        await hear("sdqkdn_interface_out", after: before)
        #expect(try await bed.node("alpha")["qkd_interfaces"]["qkd_interface"].list.isEmpty)
        try bed.start("emulator")
        await hear("sdqkdn_interface_new", within: .seconds(40), after: before)

        try await Task.sleep(for: .seconds(1))
        await bed.stop("alpha-agentd", signal: SIGTERM)
        let streamed = told()
        let queued = try await broker.consumer("drain", "\(streamed.count)", "10").split(separator: "\n").compactMap {
            Told(Tree(String($0))["body"].text ?? "")
        }
        #expect(queued.prefix(streamed.count).map(\.whole.json) == streamed.map(\.whole.json))
        #expect(Set(streamed.compactMap { $0.name.split(separator: ":").last.map(String.init) }) == Self.names)
        try await validate(streamed)
    }

    /// First request, registration, more than the link makes, other terms, silence.
    private func applications(_ bed: AgentBed, _ expect: (String) async -> Void) async throws {
        try await bed.exchange(2)
        await expect("sdqkdn_application_new")
        let id = UUID().uuidString.lowercased()
        func entry(_ bandwidth: Int) -> String {
            """
            {"etsi-qkd-sdn-node:qkd_app":[{"app_id":"\(id)","server_app_id":"sae:app-alpha","client_app_id":["sae:app-beta"],
            "app_qos":{"max_bandwidth":\(bandwidth)}}]}
            """
        }
        let created = try await bed.send("POST", "alpha", AgentBed.node + "/qkd_applications", entry(4_000_000_000))
        #expect(created.status == 201, "\(created)")
        await expect("sdqkdn_link_overloaded")
        let altered = try await bed.send("PATCH", "alpha", AgentBed.node + "/qkd_applications/qkd_app=\(id)", entry(1000))
        #expect(altered.status == 204, "\(altered)")
        await expect("sdqkdn_application_qos_update")
        await expect("sdqkdn_application_disconnected")
    }

    /// Each as a document of its own, as the model's notifications are.
    private func validate(_ notifications: [Told]) async throws {
        let scratch = try Scratch()
        let modules = ["etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd"].map { Programs.root + "/yang/\($0).yang" }
        for (index, notification) in notifications.prefix(80).enumerated() {
            let file = scratch.path + "/\(index).json"
            try Tree(value: [notification.name: notification.contents.value ?? [:]]).json.write(to: URL(filePath: file))
            let outcome = try await run(
                ["/usr/bin/yanglint", "-f", "json", "-t", "notif", "-p", Programs.root + "/yang"] + modules + [file])
            #expect(outcome.status == 0, "\(notification): \(outcome)")
        }
    }

    private func run(_ command: [String]) async throws -> Outcome { await (try Running(command)).end(within: .seconds(20)) }
}
