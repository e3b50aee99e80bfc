// Who asks is written down, held to its limits, and accounted to the bit.

import Foundation
import KeyStore
import QKDModel
import Synchronization
import Testing

/// A wall clock and a running clock that tests set.
private final class Clocks: Sendable {
    private let inner = Mutex<(wall: Double, running: Duration)>((1_700_000_100, .zero))
    func pass(_ seconds: Double) { inner.withLock { ($0.wall, $0.running) = ($0.wall + seconds, $0.running + .seconds(seconds)) } }
    var now: @Sendable () -> Date { { Date(timeIntervalSince1970: self.inner.withLock { $0.wall }) } }
    var elapsed: @Sendable () -> Duration { { self.inner.withLock { $0.running } } }
}

/// The registry of one store without servers.
private struct Registry {
    let scratch: Scratch
    let clocks = Clocks()
    let store: Store
    let journal: StoreJournal
    let applications: Applications

    init(_ scratch: Scratch? = nil, change: (inout ApplicationPolicy) -> Void = { _ in }) throws {
        self.scratch = try scratch ?? Scratch()
        var policy = ApplicationPolicy()
        policy.accountingSeconds = 60
        policy.idleSeconds = 30
        change(&policy)
        store = try openStore(self.scratch, almagro, now: clocks.now)
        journal = StoreJournal(now: clocks.now)
        applications = try Applications(store: store, journal: journal, policy: policy, now: clocks.now, elapsed: clocks.elapsed)
    }

    @discardableResult
    func ask(_ bits: Int, server: String = "app-almagro", client: String = "app-norte") async throws -> UUID {
        try await applications.admit(server: sae(server), client: sae(client), peer: norte, servesServer: true, bits: bits).id
    }

    func consume(_ bits: Int, server: String = "app-almagro", client: String = "app-norte") async throws {
        try await store.change { try $0.consume(server: sae(server), client: sae(client), bits: bits, keys: 1, intervalSeconds: 60) }
    }
}

private func limit(_ bitsPerSecond: Int) -> ApplicationChange {
    var change = ApplicationChange()
    change.qos = ApplicationQoS()
    change.qos?.maxBandwidth = bitsPerSecond
    return change
}

private func enabled(_ enabled: Bool) -> ApplicationChange {
    var change = ApplicationChange()
    change.enabled = enabled
    return change
}

@Suite struct ApplicationRegistryTests {
    @Test func aPairsIdIsTheSameEverywhereAndDependsOnTheDirection() {
        let id = ApplicationRecord.id(server: sae("a"), client: sae("b"))
        #expect(id == ApplicationRecord.id(server: sae("a"), client: sae("b")))
        #expect(id != ApplicationRecord.id(server: sae("b"), client: sae("a")))
        // Lengths are hashed too: no two pairs of names run together.
        #expect(ApplicationRecord.id(server: sae("ab"), client: sae("c")) != ApplicationRecord.id(server: sae("a"), client: sae("bc")))
        #expect(id.uuidString.split(separator: "-")[2].first == "8")
    }

    @Test func theFirstRequestIsWrittenDownAndToldOnce() async throws {
        let registry = try Registry()
        let events = registry.journal.listen()
        let id = try await registry.ask(256)
        try await registry.ask(256)
        var told = events.makeAsyncIterator()
        let first = try #require(await told.next())
        #expect(first.kind == .applicationNew && first.application?.id == id && first.application?.state == .provisional)
        // Another registry on the same database knows it.
        let again = try Registry(registry.scratch)
        let report = try #require(try await again.applications.report(id, intervals: 8))
        #expect(report.record.server == sae("app-almagro") && report.record.peer == norte && report.record.servesServer)
    }

    @Test func bandwidthHoldsInTheLongRunHoweverRequestsAreCut() async throws {
        for size in [8192, 100_000, 1_000_000] {
            let registry = try Registry()
            let id = try await registry.ask(0)
            _ = try await registry.applications.alter(id, limit(10_000), registers: true)
            var (given, longestWait) = (0, 0)
            for _ in 0..<4000 {
                registry.clocks.pass(0.5)
                do {
                    try await registry.ask(size)
                    given += size
                } catch ApplicationRefusal.bandwidth(let rate, let seconds) {
                    #expect(rate == 10_000)
                    longestWait = max(longestWait, seconds)
                }
            }
            // 2000 s, and ten of burst; one request may overshoot.
            #expect(given <= 2010 * 10_000 + size, "\(size): \(given)")
            #expect(given >= 1900 * 10_000, "\(size): \(given)")
            #expect(longestWait <= 10 + size / 10_000 + 1)
        }
    }

    @Test func whatWasNotDeliveredDoesNotCountAgainstTheBandwidth() async throws {
        let registry = try Registry()
        let id = try await registry.ask(0)
        _ = try await registry.applications.alter(id, limit(1000), registers: true)
        for _ in 0..<100 {
            try await registry.ask(10_000)
            registry.applications.giveBack(id, bits: 10_000)
        }
        try await registry.ask(10_000)
        await #expect(throws: ApplicationRefusal.bandwidth(bitsPerSecond: 1000, seconds: 1)) { try await registry.ask(256) }
    }

    @Test func provisionalOnesAreHeldToThePolicyUntilRegistered() async throws {
        let limited = try Registry { $0.provisionalBandwidth = 100 }
        let id = try await limited.ask(1000)
        await #expect(throws: ApplicationRefusal.self) { try await limited.ask(1000) }
        _ = try await limited.applications.alter(id, ApplicationChange(), registers: true)
        for _ in 0..<10 { try await limited.ask(1000) }
        let refusing = try Registry { $0.provisional = .refuse }
        await #expect(throws: ApplicationRefusal.provisional) { try await refusing.ask(256) }
        #expect(try await refusing.applications.reports(intervals: 1).first?.refused == 1)
        #expect(try await !refusing.applications.mayReserve(server: sae("x"), client: sae("y"), peer: norte))
        _ = try await refusing.applications.register(
            server: sae("x"), client: sae("y"), peer: norte, servesServer: false, ApplicationChange())
        #expect(try await refusing.applications.mayReserve(server: sae("x"), client: sae("y"), peer: norte))
    }

    @Test func disabledAndExpiredOnesGetNothing() async throws {
        let registry = try Registry()
        let id = try await registry.ask(0)
        _ = try await registry.applications.alter(id, enabled(false), registers: true)
        await #expect(throws: ApplicationRefusal.disabled) { try await registry.ask(256) }
        // A change of something else does not enable it again.
        _ = try await registry.applications.alter(id, limit(5), registers: true)
        await #expect(throws: ApplicationRefusal.disabled) { try await registry.ask(256) }
        var change = enabled(true)
        change.expires = registry.clocks.now() + 60
        _ = try await registry.applications.alter(id, change, registers: true)
        try await registry.ask(0)
        registry.clocks.pass(61)
        await #expect(throws: ApplicationRefusal.expired) { try await registry.ask(0) }
    }

    @Test func anAppIDBelongsToOneAndFindsIt() async throws {
        let registry = try Registry()
        let (one, two) = (try await registry.ask(0), try await registry.ask(0, client: "app-second"))
        var change = ApplicationChange()
        change.appID = UUID()
        let appID = try #require(change.appID)
        _ = try await registry.applications.alter(one, change, registers: true)
        #expect(try await registry.applications.report(appID, intervals: 1)?.record.id == one)
        await #expect(throws: KeyStoreError.self) { _ = try await registry.applications.alter(two, change, registers: true) }
        #expect(try await registry.applications.report(two, intervals: 1)?.record.state == .provisional)
        // By its app_id it is altered and forgotten, also by a registry that was started later.
        let again = try Registry(registry.scratch)
        #expect(try await again.applications.alter(appID, limit(7), registers: true)?.id == one)
        #expect(try await again.applications.forget(appID)?.record.id == one)
        #expect(try await again.applications.report(appID, intervals: 1) == nil)
    }

    @Test func accountsAddUpAndClosedIntervalsAreToldOnceAlsoAfterARestart() async throws {
        let registry = try Registry()
        let id = try await registry.ask(0)
        for bits in [100, 200] { try await registry.consume(bits) }
        registry.clocks.pass(60)
        try await registry.consume(50)
        let report = try #require(try await registry.applications.report(id, intervals: 8))
        #expect(report.record.bits == 350 && report.record.keys == 3)
        #expect(report.consumption.map(\.bits) == [300, 50] && report.consumption.map(\.keys) == [2, 1])
        #expect(report.consumption.allSatisfy { $0.end.timeIntervalSince($0.start) == 60 })
        #expect(report.consumption.allSatisfy { $0.start.timeIntervalSince1970.truncatingRemainder(dividingBy: 60) == 0 })
        // The service stops here; the next one tells what is over, and not again.
        let next = try Registry(registry.scratch)
        let events = next.journal.listen()
        for _ in 0..<3 { try await next.applications.keepHouse() }
        next.clocks.pass(600)
        for _ in 0..<3 { try await next.applications.keepHouse() }
        var told: [Int] = []
        var iterator = events.makeAsyncIterator()
        while told.count < 2, let event = await iterator.next() {
            if event.kind == .consumption { told.append(try #require(event.consumption).bits) }
        }
        #expect(told == [300, 50])
        #expect(try await next.store.look { try $0.accountsAreSettled() })
    }

    @Test func whoDoesNotAskForLongIsDisconnectedAndComesBack() async throws {
        let registry = try Registry()
        let events = registry.journal.listen()
        let id = try await registry.ask(0)
        registry.clocks.pass(29)
        try await registry.applications.keepHouse()
        #expect(try await registry.applications.report(id, intervals: 1)?.connected == true)
        registry.clocks.pass(2)
        try await registry.applications.keepHouse()
        try await registry.applications.keepHouse()
        #expect(try await registry.applications.report(id, intervals: 1)?.connected == false)
        try await registry.ask(0)
        #expect(try await registry.applications.report(id, intervals: 1)?.connected == true)
        var kinds: [StoreHappening.Kind] = []
        for await event in events {
            kinds.append(event.kind)
            if kinds.count == 3 { break }
        }
        #expect(kinds == [.applicationNew, .applicationDisconnected, .applicationChanged])
    }
}

@Suite(.serialized) struct ApplicationServiceTests {
    /// The ids of the pair app-almagro (server) and app-norte (client).
    private let id = ApplicationRecord.id(server: sae("app-almagro"), client: sae("app-norte"))

    @Test func bothEndsAccountToTheBitAndKeepItOverARestart() async throws {
        try await served { pair, stores, ports in
            let answer = try await curl(pair, ports[0], "app-norte/enc_keys?number=5&size=512", as: "app-almagro")
            let keys = try answer.keys()
            #expect(keys.count == 5)
            let fetched = try await curl(pair, ports[1], "app-almagro/dec_keys?key_ID=\(keys[0].key_ID)", as: "app-norte")
            #expect(try fetched.keys() == [keys[0]])
            let (here, there) = (
                try await stores[0].service.applicationReport(id), try await stores[1].service.applicationReport(id)
            )
            #expect(here.record.bits == 2560 && here.record.keys == 5 && here.record.servesServer && here.record.peer == norte)
            #expect(there.record.bits == 512 && there.record.keys == 1 && !there.record.servesServer && there.record.peer == almagro)
            #expect(here.consumption.reduce(0) { $0 + $1.bits } == 2560 && here.connected)
            await stores[0].stop()
            let again = try pair.start(0)
            #expect(try await again.service.applicationReport(id).record.bits == 2560)
            await again.stop()
        }
    }

    @Test func beyondItsBandwidthAnApplicationIsToldWhenToComeAgain() async throws {
        try await served { pair, stores, ports in
            _ = try await stores[0].service.register(server: sae("app-almagro"), client: sae("app-norte"), limit(1000))
            let first = try await curl(pair, ports[0], "app-norte/enc_keys?number=100", as: "app-almagro")
            #expect(try first.keys().count == 100)
            let headers = pair.scratch.path + "/headers"
            let second = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro", ["-D", headers])
            #expect(second.status == 503 && second.message?.contains("max_bandwidth is 1000 bit/s: try again in") == true, "\(second)")
            let text = try String(contentsOfFile: headers, encoding: .utf8).lowercased()
            let seconds = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("retry-after: ") }.flatMap { Int($0.dropFirst(13)) }
            // 25600 bits were taken out of 10000, 10000 are not asked for: 256 fit after about 16 s.
            #expect((14...18).contains(seconds ?? 0), "\(text)")
            // The other direction is another application.
            #expect(try await curl(pair, ports[1], "app-almagro/enc_keys", as: "app-norte").status == 200)
        }
    }

    @Test func whatIsDisabledAtOneEndIsRefusedAtBothAndCostsNoKey() async throws {
        try await served { pair, stores, ports in
            _ = try await stores[1].service.register(server: sae("app-almagro"), client: sae("app-norte"), enabled(false))
            let far = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(far.status == 503 && far.message?.contains("disabled there") == true, "\(far)")
            #expect(try await stores[1].service.linkReports()[0].reservedBits == 0)
            _ = try await stores[1].service.alterApplication(id, enabled(true))
            let key = try #require(try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro").keys().first)
            // Keys that were given already stay where they are, too.
            _ = try await stores[1].service.alterApplication(id, enabled(false))
            let path = "app-almagro/dec_keys?key_ID=\(key.key_ID)"
            let near = try await curl(pair, ports[1], path, as: "app-norte")
            #expect(near.status == 401 && near.message == "the application is disabled at this KME", "\(near)")
            _ = try await stores[1].service.alterApplication(id, enabled(true))
            #expect(try await curl(pair, ports[1], path, as: "app-norte").status == 200)
        }
    }
}
