// The bodies of the messages that have more than a field or two, in the order of docs/wire/classical-channel.md.

internal import NIOCore
internal import PostProcessing
internal import QKDModel

extension DeviceRole {
    fileprivate var wire: UInt8 { self == .transmitter ? 1 : 2 }

    fileprivate init(wire: UInt8) throws {
        switch wire {
        case 1: self = .transmitter
        case 2: self = .receiver
        default: throw QuantumLinkError.badMessage("hello names role \(wire), 1 or 2 belong there")
        }
    }
}

extension Hello {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(version)
        buffer.put(node)
        buffer.put(peer)
        buffer.put(link)
        buffer.put(role.wire)
        buffer.writeBytes(nonce)
        buffer.put(UInt32(epochs.count))
        for (epoch, position) in zip(epochs, taken) {
            buffer.writeBytes(epoch.bytes)
            buffer.put(position)
        }
        buffer.put(UInt32(inDoubt.count))
        for block in inDoubt { buffer.put(block) }
    }

    init(from reader: inout WireReader) throws {
        version = try reader.integer()
        node = try reader.string()
        peer = try reader.string()
        link = try reader.string()
        role = try DeviceRole(wire: try reader.integer())
        nonce = try reader.bytes(32)
        let held: [(Epoch, UInt64)] = try (0..<reader.count(elementSize: 24)).map { _ in
            (Epoch(try reader.bytes(16)), try reader.integer())
        }
        (epochs, taken) = (held.map(\.0), held.map(\.1))
        inDoubt = try (0..<reader.count(elementSize: 16)).map { _ in try reader.block() }
    }
}

extension Resolve {
    func write(to buffer: inout ByteBuffer) {
        buffer.writeBytes(epoch.bytes)
        buffer.put(UInt32(answers.count))
        for answer in answers {
            buffer.put(answer.block)
            buffer.put(answer.committed)
        }
    }

    init(from reader: inout WireReader) throws {
        epoch = Epoch(try reader.bytes(16))
        answers = try (0..<reader.count(elementSize: 17)).map { _ in Answer(block: try reader.block(), committed: try reader.flag()) }
    }
}

extension TagMessage {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(purpose.rawValue)
        buffer.put(padOffset)
        buffer.writeBytes(tag)
    }

    init(from reader: inout WireReader) throws {
        let raw: UInt8 = try reader.integer()
        guard let purpose = TagPurpose(rawValue: raw) else { throw QuantumLinkError.badMessage("a tag for purpose \(raw)") }
        self.purpose = purpose
        padOffset = try reader.integer()
        tag = try reader.bytes(16)
    }
}

extension Readiness {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(ready)
        buffer.put(reason)
        buffer.put(emulated)
        buffer.put(captured)
        buffer.put(recording)
        buffer.put(code)
        for value in [efficiency, efficiencyError, shotNoise, electronicNoise, symbolRate] { buffer.put(value) }
        buffer.put(calibrationSymbols)
    }

    init(from reader: inout WireReader) throws {
        ready = try reader.flag()
        reason = try reader.string()
        emulated = try reader.flag()
        captured = try reader.flag()
        recording = try reader.flag()
        code = try reader.string()
        efficiency = try reader.number("efficiency", in: 0...1)
        efficiencyError = try reader.number("efficiency's error", in: 0...1)
        shotNoise = try reader.number("shot noise", in: 0...1e10)
        electronicNoise = try reader.number("electronic noise", in: 0...1e12)
        symbolRate = try reader.number("symbol rate", in: 1e3...1e10)
        calibrationSymbols = UInt64(try reader.size())
    }
}

extension BlockPlan {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(block)
        buffer.put(code)
        buffer.put(frames)
        buffer.put(epsilon)
        buffer.put(designSNR)
        buffer.put(emulated)
    }

    init(from reader: inout WireReader) throws {
        block = try reader.block()
        code = try reader.string()
        frames = try reader.integer()
        epsilon = try reader.number("epsilon", in: 0...1)
        designSNR = try reader.number("design SNR", in: 0...1e6)
        emulated = try reader.flag()
    }
}

extension Disclosure {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(utc)
        buffer.put(window)
        buffer.put(scale)
        buffer.put(UInt32(positions.count))
        for position in positions {
            buffer.put(position.index)
            buffer.put(position.x)
            buffer.put(position.p)
        }
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        utc = try reader.integer()
        window = try reader.integer()
        scale = try reader.float()
        guard scale > 0, scale < 1e6 else { throw QuantumLinkError.badMessage("slotDisclose has a scale that is not positive") }
        guard window <= 1 << 20 else { throw QuantumLinkError.badMessage("slotDisclose has a window of \(window) symbols") }
        let window = self.window
        positions = try (0..<reader.count(elementSize: 8)).map { _ in
            let position = Position(index: try reader.integer(), x: try reader.integer(), p: try reader.integer())
            guard position.index < window else { throw QuantumLinkError.badMessage("slotDisclose names a position outside its window") }
            return position
        }
    }
}

extension SlotFrameOfReference {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(aligned)
        for value in [significance, phase, unit, meanX, meanP] { buffer.put(value) }
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        aligned = try reader.flag()
        significance = try reader.finite()
        phase = try reader.number("phase", in: -100...100)
        unit = try reader.number("unit", in: 1e-3...1e5)
        meanX = try reader.number("mean", in: -32768...32767)
        meanP = try reader.number("mean", in: -32768...32767)
    }
}

extension FrameBody {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(index)
        buffer.put(hashKey)
        buffer.writeImmutableBuffer(message)
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        index = try reader.integer()
        hashKey = try reader.integer()
        message = try reader.slice(reader.remaining)
    }
}

extension Verdict {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(index)
        buffer.put(decoded)
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        index = try reader.integer()
        decoded = try reader.flag()
    }
}

extension FrameMore {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(UInt32(frames.count))
        for frame in frames {
            buffer.put(frame.index)
            buffer.put(frame.round)
        }
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        frames = try (0..<reader.count(elementSize: 5)).map { _ in Request(index: try reader.integer(), round: try reader.integer()) }
    }
}

extension FrameDisclosed {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(UInt32(frames.count))
        for frame in frames {
            buffer.put(frame.index)
            buffer.put(UInt32(frame.disclosure.readableBytes))
            buffer.writeImmutableBuffer(frame.disclosure)
        }
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        frames = try (0..<reader.count(elementSize: 8)).map { _ in
            let index: UInt32 = try reader.integer()
            return Part(index: index, disclosure: try reader.slice(reader.count(elementSize: 1)))
        }
    }
}

extension FrameValues {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(slot)
        buffer.put(index)
        samples.withUnsafeBytes { _ = buffer.writeBytes($0) }
    }

    init(from reader: inout WireReader) throws {
        slot = try reader.integer()
        index = try reader.integer()
        guard reader.remaining % 4 == 0 else { throw QuantumLinkError.badMessage("frameValues holds no whole symbols") }
        let raw = try reader.slice(reader.remaining)
        samples = raw.withUnsafeReadableBytes { bytes in
            [Int16](unsafeUninitializedCapacity: bytes.count / 2) { target, count in
                UnsafeMutableRawBufferPointer(target).copyMemory(from: bytes)
                count = bytes.count / 2
            }
        }
    }
}

extension CalibrationSums {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(UInt64(symbols))
        for value in [sumX, sumP, sumSquaresX, sumSquaresP] { buffer.put(value) }
        buffer.put(UInt64(saturated))
        buffer.put(UInt32(clamping: windows))
    }

    init(from reader: inout WireReader) throws {
        let symbols = try reader.size()
        self.init(
            symbols: symbols, sumX: try reader.integer(), sumP: try reader.integer(), sumSquaresX: try reader.integer(),
            sumSquaresP: try reader.integer(), saturated: try reader.size(), windows: Int(try reader.integer(UInt32.self)))
    }
}

extension BlockSums {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(block)
        dark.write(to: &buffer)
        shot.write(to: &buffer)
        buffer.put(quadratures)
        buffer.put(squares)
        buffer.put(saturated)
        buffer.writeBytes(verificationKey)
        buffer.put(verificationHash)
        buffer.put(drift)
    }

    init(from reader: inout WireReader) throws {
        block = try reader.block()
        dark = try CalibrationSums(from: &reader)
        shot = try CalibrationSums(from: &reader)
        quadratures = UInt64(try reader.size())
        squares = try reader.number("sum of squares", in: 0...1e30)
        saturated = UInt64(try reader.size())
        verificationKey = try reader.bytes(16)
        verificationHash = try reader.integer()
        drift = try reader.number("drift", in: 0...0.49)
    }
}

extension BlockResult {
    func write(to buffer: inout ByteBuffer) {
        buffer.put(block)
        buffer.put(quadratures)
        for value in [xx, xy, yy] { buffer.put(value) }
        buffer.put(decoded)
        buffer.put(failed)
        buffer.put(secretBits)
        buffer.put(padBitsForward)
        buffer.put(padBitsBackward)
        buffer.put(limitedBy)
        buffer.put(UInt32(seed.count))
        buffer.writeBytes(seed)
    }

    init(from reader: inout WireReader) throws {
        block = try reader.block()
        quadratures = UInt64(try reader.size())
        xx = try reader.number("sum of squares", in: 0...1e30)
        xy = try reader.number("sum of products", in: -1e30...1e30)
        yy = try reader.number("sum of squares", in: 0...1e30)
        decoded = try reader.integer()
        failed = try reader.integer()
        secretBits = UInt64(try reader.size())
        padBitsForward = try reader.integer()
        padBitsBackward = try reader.integer()
        limitedBy = try reader.string()
        seed = try reader.bytes(reader.count(elementSize: 1))
    }
}
