import Foundation

/// Reads a capture file.
public struct CaptureReader: Sendable {
    public let metadata: CaptureMetadata
    /// Whole frames in the file.
    public let frames: Int
    private let path: String
    private let data: Data
    private let start: Int

    /// - Throws: `CaptureError.notACapture` with what is wrong.
    public init(path: String) throws {
        func wrong(_ reason: String) -> CaptureError { .notACapture(path: path, reason: reason) }
        guard let data = try? Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) else { throw wrong("it cannot be read") }
        guard data.count >= 16, data.prefix(8).elementsEqual(CaptureLayout.magic) else { throw wrong("it does not begin with SDQKDCAP") }
        let (version, start) = data.withUnsafeBytes { bytes in
            (
                UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)),
                Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self)))
            )
        }
        guard version == CaptureLayout.version else { throw wrong("its version \(version) is unknown") }
        guard start.isMultiple(of: CaptureLayout.page), (CaptureLayout.page...(1 << 24)).contains(start), start <= data.count else {
            throw wrong("its frames begin at \(start)")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { metadata = try decoder.decode(CaptureMetadata.self, from: data.subdata(in: 16..<start)) } catch {
            throw wrong("its metadata cannot be read")
        }
        guard (1...(1 << 20)).contains(metadata.symbolsPerFrame) else { throw wrong("its frames have \(metadata.symbolsPerFrame) symbols") }
        (self.path, self.data, self.start) = (path, data, start)
        frames = (data.count - start) / (FrameHeader.bytes + 4 * metadata.symbolsPerFrame)
    }

    /// - Parameter index: 0 ..< `frames`.
    /// - Throws: `InstrumentError.badFrame` where a checksum is wrong.
    public func frame(_ index: Int) throws -> SymbolFrame {
        precondition((0..<frames).contains(index), "no frame \(index)")
        let size = FrameHeader.bytes + 4 * metadata.symbolsPerFrame
        return try data.withUnsafeBytes { bytes in
            let whole = UnsafeRawBufferPointer(rebasing: bytes[(start + index * size)..<(start + (index + 1) * size)])
            return try SymbolFrame(copying: whole)
        }
    }
}
