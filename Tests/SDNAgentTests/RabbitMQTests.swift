// The sink against a real broker that is killed and comes back. docs/wire/notifications.md is what is tested.

import Foundation
import Glibc
import Logging
import QKDModel
import SDNAgent
import Testing

private let node = "0d4c8a36-7a57-5ea1-9f0f-5a2a5a0c1f11"

private func notification(_ object: Int, _ number: Int, _ weight: NotificationWeight = .event) -> OutgoingNotification {
    .init(
        name: "sdqkdn_link_down", object: "link/\(object)", weight: weight, body: Data(#"{"object":\#(object),"number":\#(number)}"#.utf8))
}

private struct Body: Decodable {
    var object: Int
    var number: Int
}

/// Each object's numbers in the order of arrival, without what came twice under one message id.
private func orders(_ deliveries: [Delivery]) throws -> [Int: [Int]] {
    var seen = Set<String>()
    var orders: [Int: [Int]] = [:]
    for delivery in deliveries where seen.insert(delivery.id).inserted {
        let body = try JSONDecoder().decode(Body.self, from: Data(delivery.body.utf8))
        orders[body.object, default: []].append(body.number)
    }
    return orders
}

@Suite(.serialized) struct RabbitMQTests {
    @Test("nothing is lost while the broker is away, order per object is kept, plain and over TLS", .timeLimit(.minutes(3)))
    func brokerKilledAndBack() async throws {
        let folder = TemporaryFolder()
        let pki = try TestPKI(folder: folder)
        let broker = try Broker(folder: folder, pki: pki.path)
        let settings = BrokerSettings(
            host: "localhost", port: broker.port, identity: .password(user: "guest", password: "guest"), heartbeatSeconds: 4,
            backOff: .init(first: .milliseconds(50), most: .milliseconds(400)))
        // Nobody listens yet: the sink starts, and keeps what comes.
        let sink = try RabbitMQSink(settings, node: node, outboxPath: folder.path + "/outbox")
        let running = Task { await sink.run() }
        for number in 0..<50 { sink.outbox.take(notification(number % 5, number)) }
        #expect(await eventually(within: .seconds(5)) { sink.status.reason != nil })
        #expect(sink.status.reason?.contains("\(broker.port)") ?? false)
        try await broker.start()
        #expect(await eventually(within: .seconds(20)) { sink.status.connected && sink.status.outbox.waiting == 0 })
        // Before anybody bound a queue, the broker has nowhere to put them: that is counted.
        #expect(sink.status.unrouted == 50)

        let consumer = Consumer(
            url: "amqp://guest:guest@localhost:\(broker.port)/", exchange: BrokerSettings.exchangeName, queue: "controller", folder: folder)
        try await consumer.bind()
        // Notifications go on while the broker dies.
        let stream = Task {
            for number in 0..<3000 {
                sink.outbox.take(notification(number % 7, number))
                if number % 20 == 0 { try? await Task.sleep(for: .milliseconds(2)) }
            }
        }
        try await Task.sleep(for: .milliseconds(80))
        broker.kill()
        await stream.value
        #expect(await eventually(within: .seconds(10)) { !sink.status.connected })
        #expect(sink.status.outbox.waiting > 0)
        // The agent is restarted meanwhile, too.
        running.cancel()
        await running.value
        let second = try RabbitMQSink(settings, node: node, outboxPath: folder.path + "/outbox")
        let again = Task { await second.run() }
        for number in 3000..<3100 { second.outbox.take(notification(number % 7, number)) }
        try await broker.start()
        #expect(await eventually(within: .seconds(20)) { second.status.outbox.waiting == 0 })
        let deliveries = try await consumer.drain(4000, within: 3)
        let found = try orders(deliveries)
        for object in 0..<7 { #expect(found[object] == (0..<3100).filter { $0 % 7 == object }, "object \(object)") }
        #expect(Set(deliveries.map(\.key)) == ["\(node).sdqkdn_link_down"])
        #expect(deliveries.allSatisfy { $0.mode == 2 && $0.type == "sdqkdn_link_down" && $0.content == "application/yang-data+json" })
        again.cancel()
        await again.value

        try await overTLS(broker, pki, folder)
        try await refusals(broker, pki, folder)
    }

    private func overTLS(_ broker: Broker, _ pki: TestPKI, _ folder: TemporaryFolder) async throws {
        let settings = BrokerSettings(
            host: "localhost", port: try #require(broker.tlsPort), identity: .password(user: "guest", password: "guest"),
            tls: .init(authorities: pki.path + "/ca.crt", certificate: pki.path + "/agent.crt", key: pki.path + "/agent.key"))
        let sink = try RabbitMQSink(settings, node: node, outboxPath: folder.path + "/outbox-tls")
        let running = Task { await sink.run() }
        for number in 0..<200 { sink.outbox.take(notification(0, number)) }
        #expect(await eventually(within: .seconds(10)) { sink.status.outbox.waiting == 0 }, "\(sink.status)")
        let consumer = Consumer(
            url:
                "amqps://guest:guest@localhost:\(settings.port)/?ca=\(pki.path)/ca.crt&cert=\(pki.path)/agent.crt&key=\(pki.path)/agent.key",
            exchange: BrokerSettings.exchangeName, queue: "controller", folder: folder)
        #expect(try orders(await consumer.drain(200, within: 5))[0] == Array(0..<200))
        running.cancel()
        await running.value
    }

    /// Every refusal is a reason in words, and nothing leaves the outbox.
    private func refusals(_ broker: Broker, _ pki: TestPKI, _ folder: TemporaryFolder) async throws {
        let port = try #require(broker.tlsPort)
        let stranger = try TestPKI(folder: TemporaryFolder())
        let guest = BrokerSettings.Identity.password(user: "guest", password: "guest")
        let own = BrokerSettings.TLS(authorities: pki.path + "/ca.crt", certificate: pki.path + "/agent.crt", key: pki.path + "/agent.key")
        var unverified = own
        unverified.authorities = stranger.path + "/ca.crt"
        var nameless = own
        (nameless.certificate, nameless.key) = (nil, nil)
        let cases: [(String, BrokerSettings)] = [
            ("wrong password", .init(host: "localhost", port: broker.port, identity: .password(user: "guest", password: "x"))),
            ("no such virtual host", .init(host: "localhost", port: broker.port, virtualHost: "/none", identity: guest)),
            ("a broker of another authority", .init(host: "localhost", port: port, identity: guest, tls: unverified)),
            ("a broker under another name", .init(host: "127.0.0.1", port: port, identity: guest, tls: own)),
            ("no certificate of ours", .init(host: "localhost", port: port, identity: guest, tls: nameless)),
            ("TLS to a plain port", .init(host: "localhost", port: broker.port, identity: guest, tls: own)),
        ]
        for (index, (what, settings)) in cases.enumerated() {
            let sink = try RabbitMQSink(settings, node: node, outboxPath: folder.path + "/outbox-refused-\(index)")
            let running = Task { await sink.run() }
            sink.outbox.take(notification(0, 0))
            #expect(await eventually(within: .seconds(15)) { sink.status.reason != nil }, "\(what)")
            print("\(what): \(sink.status.reason ?? "connected")")
            #expect(!sink.status.connected && sink.status.outbox.waiting == 1, "\(what)")
            running.cancel()
            await running.value
        }
    }

    @Test("back-off doubles up to its limit and is spread")
    func backOff() {
        var backOff = BackOff(first: .milliseconds(100), most: .seconds(2))
        let waits = (0..<8).map { _ in backOff.next(KernelRandom()) }
        for (index, wait) in waits.enumerated() {
            let step = min(Duration.seconds(2), .milliseconds(100 << index))
            #expect(wait >= step / 2 && wait <= step)
        }
        #expect(Set(waits).count == 8)
        backOff.reset()
        let afterReset = backOff.next(KernelRandom())
        #expect(afterReset <= .milliseconds(100))
    }
}

/// ca, broker and agent certificates by the openssl command.
struct TestPKI {
    let path: String
    private let folder: TemporaryFolder

    init(folder: TemporaryFolder) throws {
        self.folder = folder
        path = folder.path + "/pki"
        let script = """
            set -e; mkdir -p \(path); cd \(path)
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca
            for name in broker agent; do
              openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
              printf 'subjectAltName=DNS:localhost' > $name.ext
              openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $name.crt -days 2 -extfile $name.ext
            done
            """
        let pid = try start(["/bin/sh", "-c", script], output: folder.path + "/openssl.out")
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        try #require(status == 0, "openssl failed")
    }
}
