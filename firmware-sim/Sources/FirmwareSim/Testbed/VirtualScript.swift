// A conversation with a testbed in virtual time, line by line: what `qkd-emulator --virtual` reads.

internal import CFirmwareSim

/// Executes lines of a script. The same testbed and the same lines give the same output.
///
///     SERIAL MESSAGE     sends a message to a device and prints its answer
///     wait SECONDS       lets device time pass
///     # comment
public struct VirtualScript: ~Copyable {
    private let testbed: VirtualTestbed
    private var devices: [String: VirtualDevice] = [:]

    public init(_ configuration: TestbedConfiguration) { testbed = VirtualTestbed(configuration) }

    /// - Returns: lines to print: `SERIAL ANSWER`, blocks as their length and CRC-32C.
    /// - Throws: `FirmwareSimError` when a device is not in the testbed or `wait` has no number.
    public mutating func run(_ line: String) throws(FirmwareSimError) -> [String] {
        let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
        guard let first = words.first, !first.hasPrefix("#") else { return [] }
        let rest = words.count > 1 ? String(words[1]) : ""
        if first == "wait" {
            guard let seconds = Double(rest), (0...1e7).contains(seconds) else {
                throw .refused(device: "testbed", command: line, reason: "wait needs a number of seconds up to 1e7")
            }
            testbed.advance(seconds: seconds)
            return devices.keys.sorted().flatMap { printed($0, devices[$0]?.pending() ?? []) }
        }
        let serial = String(first)
        let device: VirtualDevice
        if let known = devices[serial] { device = known } else { device = try testbed.device(serial) }
        devices[serial] = device
        return printed(serial, device.control([UInt8]("\(rest)\n".utf8)))
    }

    private func printed(_ serial: String, _ bytes: [UInt8]) -> [String] {
        var lines: [String] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            if let length = blockLength(rest) {
                let body = rest.dropFirst(length.head).prefix(length.body)
                let check = Array(body).withUnsafeBytes { fs_crc32c($0.baseAddress, $0.count) }
                lines.append("\(serial) block of \(body.count) bytes, CRC-32C \(String(check, radix: 16))")
                rest = rest.dropFirst(length.head + length.body + 1)
            } else {
                let end = rest.firstIndex(of: 0x0A) ?? rest.endIndex
                lines.append("\(serial) \(String(decoding: rest[..<end], as: UTF8.self))")
                rest = rest[end...].dropFirst()
            }
        }
        return lines
    }

    private func blockLength(_ bytes: ArraySlice<UInt8>) -> (head: Int, body: Int)? {
        guard bytes.first == UInt8(ascii: "#"), let digits = bytes.dropFirst().first.map({ Int($0) - 48 }), (1...9).contains(digits) else {
            return nil
        }
        guard let body = Int(String(decoding: bytes.dropFirst(2).prefix(digits), as: UTF8.self)) else { return nil }
        return (2 + digits, body)
    }
}
