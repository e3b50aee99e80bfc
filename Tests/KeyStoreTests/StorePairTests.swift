import Foundation
import KeyMaterial
import KeyStore
import QKDModel
import Testing

@Suite(.serialized) struct StorePairTests {
    @Test func blocksCountOnceBothHoldThemWhoeverStartsFirst() async throws {
        for first in [0, 1] {
            let pair = try StorePair()
            let early = try pair.start(first)
            let bytes = noise(50_000, 1)
            let both: [RunningStore?] = first == 0 ? [early, nil] : [nil, early]
            let id = try await pair.deposit(bytes, at: both)
            await #expect(throws: KeyStoreError.self) { _ = try await pair.keys(1, from: early, index: first) }
            let late = try pair.start(1 - first)
            #expect(await pair.isUp(early, late))
            #expect(try await pair.confirmedBits(early, late) == [0, 0])
            try await pair.deposit(bytes, id: id, at: first == 0 ? [nil, late] : [late, nil])
            #expect(try await eventually { try await pair.confirmedBits(early, late) == [400_000, 400_000] })
            await early.stop()
            await late.stop()
        }
    }

    @Test func keysAreEqualInBothDirectionsAtOnce() async throws {
        let pair = try StorePair()
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        let bytes = noise(187_500, 2)
        try await pair.deposit(bytes, at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [1_500_000, 1_500_000] })
        // 2000 keys by 500 concurrent requests from both ends.
        let taken = try await withThrowingTaskGroup(of: (Int, [DeliveredKey]).self) { group in
            for index in 0..<500 { group.addTask { (index % 2, try await pair.keys(4, from: stores[index % 2], index: index % 2)) } }
            return try await group.reduce(into: [(Int, [DeliveredKey])]()) { $0.append($1) }
        }
        var seen = Set<[UInt8]>()
        for (index, keys) in taken {
            let fetched = try await pair.fetch(keys.map(\.id), at: stores[1 - index], index: 1 - index)
            for (mine, theirs) in zip(keys, fetched) {
                #expect(mine.id == theirs.id && mine.bits.matches(theirs.bits))
                #expect(seen.insert(mine.bits.plain).inserted)
            }
        }
        #expect(seen.count == 2000)
        // Both accounts balance.
        for store in stores {
            let report = try #require(try await store.service.linkReports().first)
            #expect(report.deliveredBits == 2000 * 256 && report.reservedBits == 0)
            // Rounding at the ends of the halves aside, nothing is lost.
            #expect(report.confirmedBits - report.padBits - 2 * report.deliveredBits / 2 - report.storedBits == 0)
        }
        await stores[0].stop()
        await stores[1].stop()
    }

    @Test func differingBlocksAreErasedAtBothEndsWithAnAlarm() async throws {
        let pair = try StorePair()
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        var bytes = noise(5000, 3)
        let id = try await pair.deposit(bytes, at: [stores[0], nil])
        bytes[4999] ^= 1
        try await pair.deposit(bytes, id: id, at: [nil, stores[1]])
        for store in stores {
            #expect(await eventually { store.service.journal.alarms.contains { $0.kind == .keyMismatch } })
            #expect(try await store.service.linkReports().first?.heldBits == 0)
            await store.stop()
        }
    }

    @Test func flippedBytesAreRefusedAndTheLinkRecovers() async throws {
        let target = try StorePair()
        let wire = try await Wire(to: target.kmPorts[1])
        // The same pair again, with the wire in between.
        var configuration = target.configurations[0]
        configuration.peers[0].address = try HostPort("127.0.0.1:\(wire.port)")
        let stores = [try RunningStore(configuration), try target.start(1)]
        #expect(await target.isUp(stores[0], stores[1]))
        let bytes = noise(20_000, 4)
        wire.set(.flip)
        try await target.deposit(bytes, at: stores)
        #expect(await eventually { await stores[0].service.peerReports()[0].state != .up })
        #expect(try await target.confirmedBits(stores[0], stores[1]) == [0, 0])
        wire.set(.none)
        #expect(try await eventually { try await target.confirmedBits(stores[0], stores[1]) == [160_000, 160_000] })
        // Cut, again and again, while keys are taken.
        var equal = 0
        for round in 0..<40 {
            if round % 4 == 3 { wire.cut() }
            guard let keys = try? await target.keys(1, from: stores[round % 2], index: round % 2) else {
                #expect(await target.isUp(stores[0], stores[1]))
                continue
            }
            let fetched = try await target.fetch(keys.map(\.id), at: stores[1 - round % 2], index: 1 - round % 2)
            #expect(fetched[0].bits.matches(keys[0].bits))
            equal += 1
        }
        #expect(equal >= 20)
        wire.close()
        await stores[0].stop()
        await stores[1].stop()
    }

    @Test func aSilentPeerIsAnErrorInTimeAndItsKeysAreNotLost() async throws {
        let pair = try StorePair()
        let wire = try await Wire(to: pair.kmPorts[1])
        var configuration = pair.configurations[0]
        configuration.peers[0].address = try HostPort("127.0.0.1:\(wire.port)")
        configuration.patience = .seconds(1)
        let stores = [try RunningStore(configuration), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(5000, 6), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
        let before = try await stores[0].service.linkReports()[0]
        wire.set(.swallow)
        let clock = ContinuousClock.now
        await #expect {
            _ = try await pair.keys(3, from: stores[0], index: 0)
        } throws: { "\($0)".contains("no answer within") }
        #expect(ContinuousClock.now - clock < .seconds(4))
        #expect(try await stores[0].service.linkReports()[0].deliverableBits == before.deliverableBits)
        wire.cut()
        wire.set(.none)
        #expect(await eventually { await stores[0].service.peerReports()[0].state == .down })
        #expect(await pair.isUp(stores[0], stores[1]))
        // The keys in doubt go out first, then all the others: none is missing.
        var count = 0
        while let keys = try? await pair.keys(1, from: stores[0], index: 0) {
            let fetched = try await pair.fetch(keys.map(\.id), at: stores[1], index: 1)
            #expect(fetched[0].bits.matches(keys[0].bits))
            count += 1
        }
        #expect(count == before.storedKeys)
        wire.close()
        for store in stores { await store.stop() }
    }

    @Test func aPeerWithTheWrongNameAuthorityOrSecretIsNotFollowed() async throws {
        // Another name in a good certificate.
        let wrongName = try StorePair { if $0.node == norte { $0.km.files = $0.api.files } }
        var configuration = wrongName.configurations[1]
        configuration.km.files = wrongName.pki.files("app-stranger")
        let first = [try wrongName.start(0), try RunningStore(configuration)]
        #expect(await eventually { await first[0].service.peerReports()[0].reason?.contains("app-stranger") ?? false })
        for store in first { await store.stop() }

        // Another authority.
        let wrongAuthority = try StorePair()
        let foreign = try TestPKI(wrongAuthority.scratch, folder: "foreign", names: ["kme-norte"])
        configuration = wrongAuthority.configurations[1]
        configuration.km.files = foreign.files("kme-norte")
        let second = [try wrongAuthority.start(0), try RunningStore(configuration)]
        #expect(await eventually { await second[0].service.peerReports()[0].reason?.contains("no connection") ?? false })
        #expect(await second[0].service.peerReports()[0].connections == 0)
        for store in second { await store.stop() }

        // Good certificates, but not the same installed secret.
        let wrongSecret = try StorePair()
        _ = try wrongSecret.scratch.write(noise(65_536, 78), "norte-km")
        let third = [try wrongSecret.start(0), try wrongSecret.start(1)]
        for store in third {
            #expect(await eventually { store.service.journal.alarms.contains { $0.kind == .tagRefused } })
            #expect(await store.service.peerReports()[0].connections == 0)
        }
        for store in third { await store.stop() }
    }

    @Test func zeroisingOneEndErasesBoth() async throws {
        let pair = try StorePair()
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(5000, 3), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
        let report = try await stores[1].service.zeroise(link("almagro-norte"))
        #expect(report.blocks == 1)
        for store in stores {
            #expect(try await eventually { try await store.service.linkReports().first?.storedBits == 0 })
            await store.stop()
        }
    }

    @Test func aLinkWhosePadHasReachedItsFloorSurvivesRestarts() async throws {
        let pair = try StorePair()
        for configuration in pair.configurations { _ = try pair.scratch.write(noise(4096, 9), "\(configuration.node)-km") }
        for _ in 0..<4 {
            let stores = [try pair.start(0), try pair.start(1)]
            #expect(await pair.isUp(stores[0], stores[1]))
            await #expect {
                _ = try await pair.keys(1, from: stores[0], index: 0)
            } throws: { "\($0)".contains("used up") }
            for store in stores { await store.stop() }
        }
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(20_000, 4), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [160_000, 160_000] })
        #expect(try await pair.keys(1, from: stores[0], index: 0).count == 1)
        for store in stores { await store.stop() }
    }

    @Test func anOldCopyOfTheDatabaseUsesNoPadTwice() async throws {
        let pair = try StorePair()
        let norteStore = try pair.start(1)
        var almagroStore = try pair.start(0)
        #expect(await pair.isUp(almagroStore, norteStore))
        await almagroStore.stop()
        let files = FileManager.default
        let (path, copy) = (pair.configurations[0].database, pair.scratch.path + "/copy.sqlite")
        try files.copyItem(atPath: path, toPath: copy)
        almagroStore = try pair.start(0)
        try await pair.deposit(noise(20_000, 5), at: [almagroStore, norteStore])
        let running = almagroStore
        #expect(await eventually { ((try? await pair.confirmedBits(running, norteStore)) ?? [0]).allSatisfy { $0 > 0 } })
        await almagroStore.stop()
        // The newest is put aside, the old one takes its place.
        try files.moveItem(atPath: path, toPath: path + ".newest")
        try files.copyItem(atPath: copy, toPath: path)
        almagroStore = try pair.start(0)
        let old = almagroStore
        let told = await eventually {
            old.service.journal.alarms.contains { $0.kind == .tagRefused && $0.message.contains("old copy") }
        }
        #expect(told)
        let before = await almagroStore.service.peerReports()[0].padSendBytes
        let heard = await norteStore.service.peerReports()[0].refusedMessages
        try await Task.sleep(for: .seconds(1.5))
        let after = await almagroStore.service.peerReports()[0]
        #expect(after.padSendBytes == before && after.state != .up)
        #expect(await norteStore.service.peerReports()[0].refusedMessages == heard)
        await almagroStore.stop()
        try files.removeItem(atPath: path)
        try files.moveItem(atPath: path + ".newest", toPath: path)
        almagroStore = try pair.start(0)
        #expect(await pair.isUp(almagroStore, norteStore))
        await almagroStore.stop()
        await norteStore.stop()
    }

    @Test func requestsShareExchangesWhereThePadIsLow() async throws {
        let pair = try StorePair()
        for configuration in pair.configurations { _ = try pair.scratch.write(noise(12_288, 9), "\(configuration.node)-km") }
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(10_000, 4), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [80_000, 80_000] })
        let before = await stores[0].service.peerReports()[0].padSendBytes
        let keys = try await withThrowingTaskGroup(of: Int.self) { group in
            for index in 0..<60 {
                try await Task.sleep(for: .milliseconds(1))
                group.addTask { try await pair.keys(1, from: stores[0], index: 0, bytes: 8 + index % 2 * 8).count }
            }
            return try await group.reduce(0, +)
        }
        let used = before - (await stores[0].service.peerReports()[0].padSendBytes)
        #expect(keys == 60 && used <= 30 * 16, "\(used) bytes of pad for 60 requests")
        for store in stores { await store.stop() }
    }

    @Test func blocksThatThePeerHasLostAreGivenUpAndOthersServe() async throws {
        let pair = try StorePair()
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        let lost = try await pair.deposit(noise(5000, 6), at: stores)
        try await pair.deposit(noise(5000, 7), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [80_000, 80_000] })
        // As if its database had come from a copy that is older than the block.
        try await stores[1].service.store.change { _ = try $0.void(lost, tell: false) }
        #expect(await eventually { (try? await pair.keys(1, from: stores[0], index: 0)) != nil })
        #expect(stores[0].service.journal.alarms.contains { $0.kind == .keyMismatch })
        #expect(try await stores[0].service.store.look { try $0.block(lost)?.state } == .void)
        for store in stores { await store.stop() }
    }

    @Test func aHostNameOfSeveralAddressesIsDialled() async throws {
        let pair = try StorePair()
        var configuration = pair.configurations[0]
        configuration.peers[0].address = try HostPort("localhost:\(pair.kmPorts[1])")
        let stores = [try RunningStore(configuration), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        for store in stores { await store.stop() }
    }

    @Test func aPeerSpeaksForItsOwnApplicationsOnly() async throws {
        let pair = try StorePair()
        // Almagro believes that it serves an application of Norte, and asks in its name.
        var configuration = pair.configurations[0]
        configuration.applications[sae("app-second")] = almagro
        let stores = [try RunningStore(configuration), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(5000, 6), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
        let peer = try #require(stores[0].service.link(to: norte))
        await #expect {
            _ = try await peer.keys(KeyRequest(peer: norte, master: sae("app-second"), slave: sae("app-norte"), count: 1, keyBytes: 32))
        } throws: { "\($0)".contains("app-second") }
        #expect(try await stores[1].service.linkReports()[0].reservedBits == 0)
        #expect(try await pair.keys(1, from: stores[0], index: 0).count == 1)
        for store in stores { await store.stop() }
    }

    @Test func padsAreRefilledByBlocksAndNeverRunDryWhileKeyComes() async throws {
        let pair = try StorePair()
        for configuration in pair.configurations { _ = try pair.scratch.write(noise(4096, 9), "\(configuration.node)-km") }
        let stores = [try pair.start(0), try pair.start(1)]
        #expect(await pair.isUp(stores[0], stores[1]))
        for round in UInt64(1)...3 {
            try await pair.deposit(noise(20_000, round), at: stores)
            let bits = 160_000 * Int(round)
            #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [bits, bits] })
            for _ in 0..<60 { #expect(try await pair.keys(1, from: stores[0], index: 0).count == 1) }
        }
        let peers = [await stores[0].service.peerReports()[0], await stores[1].service.peerReports()[0]]
        #expect(peers.allSatisfy { $0.padSendBytes > 4096 && $0.refusedMessages == 0 && $0.connections == 1 })
        for store in stores { await store.stop() }
    }
}
