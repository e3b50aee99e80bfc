import Foundation
import Glibc

/// Writes a capture file. Not shared between tasks.
public final class CaptureWriter {
    public private(set) var metadata: CaptureMetadata
    private let path: String
    private let fd: Int32

    /// Makes the file with mode 0600.
    /// - Parameter replaces: an existing file goes first; otherwise it is never touched.
    /// - Throws: `CaptureError.cannotWrite`.
    public init(path: String, metadata: CaptureMetadata, replaces: Bool = false) throws {
        self.path = path
        self.metadata = metadata
        if replaces, unlink(path) != 0, errno != ENOENT {
            throw CaptureError.cannotWrite(path: path, reason: String(cString: strerror(errno)))
        }
        fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600)
        guard fd >= 0 else {
            let exists = errno == EEXIST
            throw CaptureError.cannotWrite(
                path: path, reason: exists ? "it exists already: choose another name" : String(cString: strerror(errno)))
        }
        do { try writeHeader() } catch {
            // No stub of a file stays behind.
            unlink(path)
            throw error
        }
    }

    deinit { Glibc.close(fd) }

    /// Appends a frame as it came.
    public func append(_ frame: SymbolFrame) throws {
        guard frame.count == metadata.symbolsPerFrame else {
            throw CaptureError.frameSize(path: path, expected: metadata.symbolsPerFrame, found: frame.count)
        }
        let place = CaptureLayout.headerBytes + metadata.frames * (FrameHeader.bytes + 4 * frame.count)
        try frame.samples.withFrameBytes { try write($0, at: place) }
        if metadata.frames > 0 { metadata.lostFrames += frame.lostBefore }
        metadata.frames += 1
        metadata.symbols += frame.count
        metadata.firstFrame = metadata.firstFrame ?? frame.number
        metadata.lastFrame = frame.number
        metadata.saturatedSamples += frame.saturated
        metadata.scale = frame.scale
    }

    /// Writes the final counts and waits until all is on the disk.
    /// - Parameter lost: frames that the device made and that are not here, those before the first and behind the last included;
    ///   `nil`: the gaps.
    public func finish(lost: Int? = nil) throws {
        if let lost { metadata.lostFrames = UInt64(lost) }
        try writeHeader()
        guard fsync(fd) == 0 else { throw failure() }
    }

    private func writeHeader() throws {
        var bytes = CaptureLayout.magic
        withUnsafeBytes(of: CaptureLayout.version.littleEndian) { bytes += $0 }
        withUnsafeBytes(of: UInt32(CaptureLayout.headerBytes).littleEndian) { bytes += $0 }
        bytes += try CaptureMetadata.encoder().encode(metadata)
        guard bytes.count < CaptureLayout.headerBytes else {
            throw CaptureError.cannotWrite(path: path, reason: "its metadata has \(bytes.count) bytes")
        }
        bytes += [UInt8](repeating: UInt8(ascii: " "), count: CaptureLayout.headerBytes - bytes.count)
        try bytes.withUnsafeBytes { try write($0, at: 0) }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < bytes.count {
            let part = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = pwrite(fd, part.baseAddress, part.count, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure() }
            done += count
        }
    }

    private func failure() -> CaptureError { .cannotWrite(path: path, reason: String(cString: strerror(errno))) }
}
