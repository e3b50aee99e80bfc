import CTransport

/// CRC-32C (Castagnoli; RFC 3720 appendix B.4), as symbol frames carry it.
public enum CRC32C {
    /// - Parameter previous: the checksum of the bytes before, 0 at the start.
    public static func checksum(_ bytes: UnsafeRawBufferPointer, previous: UInt32 = 0) -> UInt32 {
        transport_crc32c(previous, bytes.baseAddress, bytes.count)
    }

    /// The same by tables, on any processor; for tests and comparison.
    package static func portable(_ bytes: UnsafeRawBufferPointer, previous: UInt32 = 0) -> UInt32 {
        transport_crc32c_portable(previous, bytes.baseAddress, bytes.count)
    }

    package static var isHardware: Bool { transport_crc32c_is_hardware() != 0 }
}
