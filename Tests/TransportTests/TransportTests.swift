import QKDModel
import QKDTesting
import Testing
import Transport

/// CRC-32C of `bytes`.
private func checksum(_ bytes: [UInt8], portable: Bool) -> UInt32 {
    bytes.withUnsafeBytes { portable ? CRC32C.portable($0) : CRC32C.checksum($0) }
}

@Suite struct CRC32CTests {
    /// RFC 3720, appendix B.4, and the customary check value.
    @Test(arguments: [true, false])
    func vectors(portable: Bool) {
        #expect(checksum([UInt8](repeating: 0, count: 32), portable: portable) == 0x8A91_36AA)
        #expect(checksum([UInt8](repeating: 0xFF, count: 32), portable: portable) == 0x62A8_AB43)
        #expect(checksum(Array(0...31), portable: portable) == 0x46DD_794E)
        #expect(checksum(Array((0...31).reversed()), portable: portable) == 0x113F_DB5C)
        #expect(checksum(Array("123456789".utf8), portable: portable) == 0xE306_9283)
        #expect(checksum([], portable: portable) == 0)
    }

    @Test func pathsAgreeAtEveryLengthAndSplit() {
        let bytes = SeededRandom(1).bytes(300)
        for count in 0...300 {
            #expect(checksum(Array(bytes[..<count]), portable: true) == checksum(Array(bytes[..<count]), portable: false))
        }
        let whole = checksum(bytes, portable: false)
        for split in [1, 7, 8, 9, 150, 299] {
            let first = checksum(Array(bytes[..<split]), portable: false)
            #expect(Array(bytes[split...]).withUnsafeBytes { CRC32C.checksum($0, previous: first) } == whole)
        }
    }
}

@Suite struct AddressTests {
    @Test func readsEveryScheme() throws {
        #expect(try Address("tcp:127.0.0.1:5025") == .tcp(host: "127.0.0.1", port: 5025))
        #expect(try Address("tcp:[::1]:5025") == .tcp(host: "::1", port: 5025))
        #expect(try Address("serial:/dev/ttyUSB0") == .serial(device: "/dev/ttyUSB0", baud: nil, flowControl: true))
        #expect(try Address("serial:/dev/x?baud=9600&flow=none") == .serial(device: "/dev/x", baud: 9600, flowControl: false))
        #expect(try Address("usb:ALM-TX-1") == .usb(serial: "ALM-TX-1"))
        #expect(try Address("usb:ALM-TX-1").hotplugSerial == "ALM-TX-1" && Address("serial:/dev/x").hotplugSerial == nil)
        #expect(try Address("serial:ALM-TX-1?baud=9600") == .serial(device: "ALM-TX-1", baud: 9600, flowControl: true))
        #expect(try Address("replay:a/b.transcript") == .replay(file: "a/b.transcript"))
    }

    @Test(arguments: [
        "tcp:x", "tcp::5", "tcp:x:0", "tcp:x:70000", "serial:tty USB0", "serial:/dev/x?speed=1", "usb", "usb:", "usb:a b", "usb:-x",
        "http:x:1", "",
    ])
    func refusesTheRest(text: String) {
        #expect(throws: TransportError.self) { try Address(text) }
    }

    @Test(arguments: [
        "tcp:127.0.0.1:5025", "tcp:[::1]:1", "serial:/dev/x?baud=9600", "serial:/dev/x?baud=9600&flow=none", "serial:/dev/x?flow=none",
        "serial:/dev/x", "serial:RX-1", "usb:RX-1", "replay:x",
    ])
    func descriptionReadsBack(text: String) throws {
        #expect(try Address(text).description == text)
    }
}

@Suite struct LoopbackTests {
    @Test func remoteNeedsLeave() async throws {
        // TEST-NET-1 of RFC 5737: nobody is there, and nobody may be asked.
        await #expect(throws: TransportError.remoteRefused("tcp:192.0.2.1:5025")) {
            try await InstrumentSession.open(.tcp(host: "192.0.2.1", port: 5025))
        }
    }

    @Test func refusedPortSaysWhy() async throws {
        let server = try LoopbackServer { _ in }
        let port = server.port
        server.close()
        await #expect(throws: TransportError.cannotOpen("tcp:127.0.0.1:\(port)", reason: "Connection refused")) {
            try await InstrumentSession.open(.tcp(host: "127.0.0.1", port: port))
        }
    }
}
