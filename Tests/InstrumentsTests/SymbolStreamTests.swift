import Instruments
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

/// Frames 10 ..< 10 + count.
private func frames(_ count: Int, symbols: Int = 1024) -> [FrameSpecification] {
    (0..<count).map { FrameSpecification(number: UInt64(10 + $0), symbols: symbols) }
}

private func open(_ device: FakeDevice) async throws -> (module: any QKDModule, stream: any SymbolSource) {
    let module = try await Modules.open(uri: device.uri)
    return (module, try await module.openStream())
}

/// The next `count` frames' numbers; each frame's samples are checked.
private func take(_ count: Int, _ stream: any SymbolSource) async throws -> [UInt64] {
    var numbers: [UInt64] = []
    for _ in 0..<count {
        guard let frame = try await stream.next() else { break }
        let wanted = FrameSpecification(number: frame.number, symbols: frame.count)
        #expect(frame.samples.withInt16 { $0.enumerated().allSatisfy { $1 == wanted.sample($0) } })
        numbers.append(frame.number)
    }
    return numbers
}

@Suite(.timeLimit(.minutes(1))) struct SymbolStreamTests {
    @Test func framesArriveWholeAndInOrder() async throws {
        let device = try FakeDevice(frames: frames(40))
        let (module, stream) = try await open(device)
        let first = try #require(try await stream.next())
        #expect(first.number == 10)
        #expect(first.firstSymbol == 7_000_010_240)
        #expect(first.deviceTime == 10_000_000)
        #expect(first.utc == 1_790_000_000_010_000_000)
        #expect(first.kind == .signal)
        #expect(first.scale == 0.001)
        #expect(first.saturated == 3)
        #expect(first.count == 1024)
        #expect(first.samples.withFrameBytes { Array($0) } == FrameSpecification(number: 10).bytes())
        #expect(try await take(39, stream) == Array(11..<50))
        try await stream.release(through: 30)
        module.close()
        #expect(try await stream.next() == nil)
    }

    @Test func samplesAreAligned() async throws {
        let device = try FakeDevice(frames: frames(1))
        let (module, stream) = try await open(device)
        let frame = try #require(try await stream.next())
        #expect(frame.samples.withInt16 { Int(bitPattern: $0.baseAddress) % 64 } == 0)
        module.close()
    }

    @Test func corruptFrameIsFetchedAgain() async throws {
        let device = try FakeDevice(frames: frames(30))
        var bad = FrameSpecification(number: 17).bytes()
        bad[200] ^= 4
        device.state.withLock { $0.mangled[17] = [bad, bad] }
        let (module, stream) = try await open(device)
        #expect(try await take(30, stream) == Array(10..<40))
        #expect(stream.statistics.corrupt == 2)
        #expect(stream.statistics.refetched == 1)
        #expect(stream.statistics.lost == 0)
        module.close()
    }

    @Test func hopelessFrameIsAGap() async throws {
        let device = try FakeDevice(frames: frames(20))
        var bad = FrameSpecification(number: 15).bytes()
        bad[100] ^= 1
        device.state.withLock { $0.mangled[15] = [[UInt8]](repeating: bad, count: 50) }
        let (module, stream) = try await open(device)
        #expect(try await take(5, stream) == Array(10..<15))
        let next = try #require(try await stream.next())
        #expect(next.number == 16)
        #expect(next.lostBefore == 1)
        #expect(try await take(13, stream) == Array(17..<30))
        #expect(stream.statistics.lost == 1)
        module.close()
    }

    @Test func brokenHeaderReconnects() async throws {
        let device = try FakeDevice(frames: frames(20))
        var bad = FrameSpecification(number: 12).bytes()
        bad[9] ^= 0x40
        device.state.withLock { $0.mangled[12] = [bad] }
        let (module, stream) = try await open(device)
        #expect(try await take(20, stream) == Array(10..<30))
        #expect(stream.statistics.reconnections == 1)
        #expect(device.state.withLock { $0.dataConnections } == 2)
        module.close()
    }

    @Test func droppedConnectionLosesNothing() async throws {
        let device = try FakeDevice(frames: frames(40))
        let (module, stream) = try await open(device)
        #expect(try await take(5, stream) == Array(10..<15))
        device.dropData()
        #expect(try await take(35, stream) == Array(15..<50))
        #expect(stream.statistics.lost == 0)
        module.close()
    }

    @Test func overrunIsReportedAsAGap() async throws {
        let specifications = frames(5) + [FrameSpecification(number: 20, flags: 1), FrameSpecification(number: 21)]
        let device = try FakeDevice(frames: specifications)
        let (module, stream) = try await open(device)
        #expect(try await take(5, stream) == Array(10..<15))
        let next = try #require(try await stream.next())
        #expect(next.number == 20)
        #expect(next.lostBefore == 5)
        #expect(next.flags.contains(.overrun))
        #expect(try await take(1, stream) == [21])
        module.close()
    }

    @Test func unexplainedGapIsAskedForOnce() async throws {
        let device = try FakeDevice(frames: frames(3) + [FrameSpecification(number: 18), FrameSpecification(number: 19)])
        let (module, stream) = try await open(device)
        #expect(try await take(5, stream) == [10, 11, 12, 18, 19])
        #expect(stream.statistics.lost == 5)
        module.close()
    }

    @Test func wrongTokenIsAnError() async throws {
        let device = try FakeDevice(frames: frames(3))
        let module = try await Modules.open(uri: device.uri)
        device.state.withLock {
            $0.answers["DATA:TOKen?"] = "ffffffffffffffffffffffffffffffff"
        }
        let stream = try await module.openStream()
        await #expect(throws: TransportError.self) { try await stream.next() }
        device.state.withLock { $0.answers["DATA:TOKen?"] = "xyz" }
        let other = try await module.openStream()
        await #expect(
            throws: InstrumentError.unexpectedAnswer(query: "DATA:TOKen?", answer: "3 characters", wanted: "32 hexadecimal digits")
        ) {
            try await other.next()
        }
        module.close()
    }

    @Test func slowConsumerIsNeverFlooded() async throws {
        let device = try FakeDevice(frames: frames(100))
        let (module, stream) = try await open(device)
        try await Task.sleep(for: .milliseconds(200))
        // Nothing was taken: no more than the stream's depth may have come.
        #expect(stream.statistics.frames <= 8)
        #expect(try await take(100, stream) == Array(10..<110))
        module.close()
    }

    @Test func stopEndsTheStreamAfterTheLastFrame() async throws {
        let device = try FakeDevice(frames: frames(6))
        let (module, stream) = try await open(device)
        try await module.stopAcquisition()
        #expect(try await take(10, stream) == Array(10..<16))
        #expect(try await stream.next() == nil)
        try await module.startAcquisition()
        device.add(FrameSpecification(number: 16))
        #expect(try await take(1, stream) == [16])
        #expect(device.state.withLock { $0.commands } == ["ACQuire:STOP", "ACQuire:STARt"])
        module.close()
    }

    /// What an earlier acquisition left in the ring, in flight and in the queue is not the next one's, and is no loss.
    @Test(arguments: [0, 3, 12])
    func leftoversOfAnEarlierAcquisitionAreDropped(taken: Int) async throws {
        let device = try FakeDevice(frames: frames(40))
        let (module, stream) = try await open(device)
        #expect(try await take(taken, stream) == Array(10..<(10 + UInt64(taken))))
        try await module.stopAcquisition()
        try await module.startAcquisition()
        for number in 50..<90 as Range<UInt64> { device.add(FrameSpecification(number: number)) }
        let first = try #require(try await stream.next())
        #expect(first.number == 50 && first.lostBefore == 0)
        #expect(try await take(39, stream) == Array(51..<90))
        #expect(stream.statistics.lost == 0)
        #expect(device.state.withLock { $0.released } == 49)
        module.close()
    }

    @Test func cancellationEndsTheWait() async throws {
        let device = try FakeDevice()
        let (module, stream) = try await open(device)
        let task = Task { try await stream.next() }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        device.add(FrameSpecification(number: 10))
        #expect(try await take(1, stream) == [10])
        module.close()
    }

    @Test func closeEndsTheWait() async throws {
        let device = try FakeDevice()
        let (module, stream) = try await open(device)
        let task = Task { try await stream.next() }
        try await Task.sleep(for: .milliseconds(50))
        module.close()
        #expect(try await task.value == nil)
    }

    /// Frames of any bytes, cut anywhere: an error or a gap, no crash, and good frames go through afterwards.
    @Test func randomFrames() async throws {
        let random = SeededRandom(5)
        for round in 0..<20 {
            let device = try FakeDevice(frames: frames(12, symbols: 64))
            device.state.withLock { state in
                for number in [11, 14, 15] as [UInt64] {
                    var bytes = FrameSpecification(number: number, symbols: 64).bytes()
                    for _ in 0..<(1 + random.word() % 4) {
                        bytes[Int(random.word() % UInt64(bytes.count))] ^= UInt8(1 << (random.word() % 8))
                    }
                    if round % 5 == 4 { bytes = random.bytes(bytes.count) }
                    state.mangled[number] = [bytes]
                }
            }
            let (module, stream) = try await open(device)
            #expect(try await take(12, stream) == Array(10..<22), "round \(round)")
            module.close()
        }
    }

    /// One connection, checked frames, a consumer that only counts: at least 200 MB/s (measured far above; the machine may be busy).
    @Test func throughputOverLoopback() async throws {
        let bytes = FrameSpecification(number: 0, symbols: 65536).bytes()
        let count = 1500
        let specification = FrameSpecification(number: 0, symbols: 65536)
        let server = try LoopbackServer { connection in
            _ = try connection.receive(24)
            try connection.send([0])
            // Credits are ignored here: the socket's own buffer slows this sender.
            var frame = bytes
            for number in 0..<UInt64(count) {
                withUnsafeBytes(of: number.littleEndian) { frame.replaceSubrange(16..<24, with: $0) }
                withUnsafeBytes(of: CRC32C.of(frame[..<68]).littleEndian) { frame.replaceSubrange(68..<72, with: $0) }
                try connection.send(frame)
            }
            while (try? connection.receive(16)) != nil {}
        }
        let device = try FakeDevice()
        device.state.withLock { $0.answers["DATA:PORT?"] = "\(server.port)" }
        let (module, stream) = try await open(device)
        let start = ContinuousClock.now
        var sum = 0
        for _ in 0..<count {
            let frame = try #require(try await stream.next())
            sum += Int(frame.samples.withInt16 { $0[5] })
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let rate = Double(count * bytes.count) / seconds / 1e6
        print("symbol stream over loopback: \(Int(rate)) MB/s")
        #expect(sum == count * Int(specification.sample(5)))
        #expect(rate > 200)
        module.close()
    }
}

extension CRC32C {
    fileprivate static func of(_ bytes: ArraySlice<UInt8>) -> UInt32 { Array(bytes).withUnsafeBytes { checksum($0) } }
}
