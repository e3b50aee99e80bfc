// agent-bench: what the controller's side of a node takes, with as many links as a large node might have.
//
//   agent-bench --pki FOLDER --yang FOLDER [--links 1000] [--seconds 3] [--broker PORT]
//
// The datastore with the models of a node behind a RESTCONF server, asked by clients in the same process over mutual TLS on loopback; then the
// sink of notifications against a broker, each notification made and checked as the agent makes it. Prints JSON. `scripts/bench-agent` makes the
// certificates, runs a broker and this; `qkdctl bench` runs that.

import ArgumentParser
import Foundation
import Logging
import RESTCONF
import SDNAgent

/// Configuration that is applied to nothing.
private struct Nothing: ConfigurationTarget {
    func prepare(_ change: ConfigurationChange) async throws(RESTCONFError) {}
    func commit() async throws(RESTCONFError) {}
    func abort() async {}
}

private struct Answer: Encodable {
    var links: Int
    var gets_per_second: Double
    var patches_per_second: Double
    var sse_per_second: Double
    var sse_subscribers: Int
    /// Resident memory with all links loaded and served, before the first request; and after all of them.
    var memory_bytes: Int
    var memory_after_bytes: Int
    /// Made, checked, kept, sent and confirmed by the broker.
    var broker_per_second: Double?
}

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "agent-bench", abstract: "How much the SDN face of a node takes.")

    @Option(help: "Folder with ca.crt, agent-bench.crt and .key, controller.crt and .key.")
    var pki: String
    @Option(help: "Folder with the YANG modules.")
    var yang: String
    @Option(help: "Links of the node.")
    var links = 1000
    @Option(help: "Seconds for each figure.")
    var seconds = 3.0
    @Option(help: "Port of a broker on loopback where the user guest may do anything.")
    var broker: Int?

    func run() async throws {
        signal(SIGPIPE, SIG_IGN)
        let folder = NSTemporaryDirectory() + "agent-bench-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let schema = try YANGSchema(
            folders: [yang],
            modules: [
                "etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd", "ietf-restconf", "ietf-restconf-monitoring",
                "ietf-netconf-with-defaults",
            ])
        let datastore = try Datastore(
            schema: schema, folder: folder + "/running", initial: Self.node(Self.configured, links), target: Nothing())
        try await datastore.setState(Self.node(Self.reported, links))
        let streams = EventStreams(schema: schema)
        let (port, server) = try await serve(datastore, streams)
        defer { server.cancel() }
        let memory = Self.residentBytes()
        let figures = try await measure(port, streams)
        let sent = try await notifications(folder, streams)
        let answer = Answer(
            links: links, gets_per_second: figures.gets, patches_per_second: figures.patches, sse_per_second: figures.delivered,
            sse_subscribers: figures.subscribers, memory_bytes: memory, memory_after_bytes: Self.residentBytes(), broker_per_second: sent)
        print(String(decoding: try JSONEncoder().encode(answer), as: UTF8.self))
    }

    /// A line for each PATCH would be measured, too.
    private static let quiet: Logger = {
        var logger = Logger(label: "agent-bench")
        logger.logLevel = .warning
        return logger
    }()

    // MARK: RESTCONF

    private func files(_ name: String) -> TLSFiles {
        TLSFiles(certificate: "\(pki)/\(name).crt", key: "\(pki)/\(name).key", authority: pki + "/ca.crt")
    }

    private func serve(_ datastore: Datastore, _ streams: EventStreams) async throws -> (port: Int, server: Task<Void, any Error>) {
        var limits = RESTCONFLimits()
        (limits.requestsPerSecond, limits.requestBurst) = (1e9, 1e9)
        let (ports, out) = AsyncStream.makeStream(of: Int.self)
        let server = RESTCONFServer(
            configuration: .init(
                host: "127.0.0.1", port: 0, files: files("agent-bench"), access: AccessList(AccessRules(["controller": .controller])),
                limits: limits), datastore: datastore, streams: streams, logger: Self.quiet, onRunning: { out.yield($0) })
        let task = Task {
            defer { out.finish() }
            try await server.run()
        }
        for await port in ports { return (port, task) }
        try await task.value
        throw ExitCode.failure
    }

    private func measure(_ port: Int, _ streams: EventStreams) async throws -> RESTCONFBench.Figures {
        let path = "etsi-qkd-sdn-node:qkd_node/qkd_links/qkd_link="
        let count = links
        return try await RESTCONFBench(base: "https://127.0.0.1:\(port)", files: files("controller")).run(
            get: path + Self.id(links / 2),
            patch: (
                path + Self.id(links / 2),
                { turn in
                    Data(
                        #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(Self.id(count / 2))","phys_channel_att":"\#(turn % 30).5"}]}"#.utf8)
                }
            ),
            publish: { try await streams.publish("etsi-qkd-sdn-node:sdqkdn_link_perf_update", Self.performance($0 % count)) },
            connections: 4, subscribers: 8, seconds: seconds)
    }

    // MARK: The broker

    private func notifications(_ folder: String, _ streams: EventStreams) async throws -> Double? {
        guard let broker else { return nil }
        let settings = BrokerSettings(host: "127.0.0.1", port: broker, identity: .password(user: "guest", password: "guest"))
        let sink = try RabbitMQSink(settings, node: Self.id(0), outboxPath: folder + "/outbox", logger: Self.quiet)
        let task = Task { await sink.run() }
        let patience = ContinuousClock.now + .seconds(10)
        while !sink.status.connected {
            guard ContinuousClock.now < patience else { throw ValidationError("no broker: \(sink.status.reason ?? "it does not answer")") }
            try await Task.sleep(for: .milliseconds(10))
        }
        let began = ContinuousClock.now
        var made = 0
        while began.duration(to: .now) < .seconds(seconds) {
            let index = made % links
            let notification = try await streams.publish("etsi-qkd-sdn-node:sdqkdn_link_perf_update", Self.performance(index))
            sink.outbox.take(
                OutgoingNotification(
                    name: "sdqkdn_link_perf_update", object: "link/\(Self.id(index))", weight: .event, body: notification.json))
            made += 1
            while sink.outbox.counts.waiting > 4096 { try await Task.sleep(for: .milliseconds(1)) }
        }
        while sink.outbox.counts.waiting > 0 { try await Task.sleep(for: .milliseconds(1)) }
        let rate = Double(made) / (began.duration(to: .now) / .seconds(1))
        let status = sink.status
        task.cancel()
        await task.value
        guard status.unrouted == 0, status.outbox.dropped == 0, status.outbox.delivered == UInt64(made) else {
            throw ValidationError("of \(made) notifications \(status.outbox.delivered) were confirmed, \(status.unrouted) had no queue")
        }
        return rate
    }

    // MARK: Data

    private static func id(_ index: Int) -> String { String(format: "33333333-3333-4333-8333-%012d", index) }

    private static func node(_ link: (Int) -> String, _ count: Int) -> String {
        let links = (0..<count).map(link).joined(separator: ",")
        return #"{"etsi-qkd-sdn-node:qkd_node":{"qkdn_id":"\#(id(0))","qkd_links":{"qkd_link":[\#(links)]}}}"#
    }

    private static func configured(_ index: Int) -> String {
        """
        {"qkdl_id":"\(id(index))","qkdl_enable":true,"qkdl_type":"etsi-qkd-node-types:PHYS","qkdl_local":{"qkdn_id":"\(id(0))","qkdi_id":\(index)},
        "qkdl_remote":{"qkdn_id":"\(id(index))","qkdi_id":1},"phys_channel_att":"6.0","phys_wavelength":"34",
        "phys_qkd_role":"etsi-qkd-node-types:TRANSMITTER","sdqkd-cv-qkd:cv-qkd":{"link-name":"link-\(index)","device":"tx","slot-weight":"2.5"}}
        """
    }

    private static func reported(_ index: Int) -> String {
        """
        {"qkdl_id":"\(id(index))","qkdl_status":"etsi-qkd-node-types:ACTIVE","qkdl_performance":{"skr":\(index),"eskr":1,
        "phys_perf":[{"perf_type":"etsi-qkd-node-types:SNR","value":"0.163"}]},
        "sdqkd-cv-qkd:cv-qkd-state":{"connected":true,"transmittance":"0.25","excess-noise":"0.005","slot-share":"0.35"}}
        """
    }

    private static func performance(_ index: Int) -> String {
        """
        {"qkd_link":{"qkdl_id":"\(id(index))","performance":{"expected_consumption":1000,"skr":\(index),"eskr":\(index),
        "phys_perf":[{"perf_type":"etsi-qkd-node-types:SNR","value":"0.163"}]}}}
        """
    }

    private static func residentBytes() -> Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
    }
}
