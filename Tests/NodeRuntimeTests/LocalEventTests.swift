import Foundation
import NodeRuntime
import Testing

@Suite struct LocalEventTests {
    private let events = [
        LocalEvent(name: "block", json: Data(#"{"bits":1500000}"#.utf8), id: "7"),
        LocalEvent(name: "alarm", json: Data(#"{"text":"laser: off"}"#.utf8)),
        LocalEvent(name: "lines", json: Data("{\n}".utf8)),
    ]

    /// However the bytes are cut, the same events come out.
    @Test(arguments: [1, 2, 3, 7, 1000])
    func survivesAnyCut(size: Int) throws {
        let bytes = Array((LocalEvent.keepAlive + events.map(\.text).joined(separator: LocalEvent.keepAlive)).utf8)
        var parser = LocalEventParser()
        var read: [LocalEvent] = []
        for start in stride(from: 0, to: bytes.count, by: size) {
            read += try parser.feed(bytes[start..<min(start + size, bytes.count)])
        }
        #expect(read.map(\.name) == ["block", "alarm", "lines"])
        #expect(read.map(\.json) == events.map(\.json))
        #expect(read[0].id == "7")
    }

    @Test func carriageReturnsCommentsAndUnknownFields() throws {
        var parser = LocalEventParser()
        let read = try parser.feed(Array("event: a\r\ndata:1\r\nretry: 5\r\n: note\r\n\r\ndata: 2\n\nevent: none\n\n".utf8))
        #expect(read == [LocalEvent(name: "a", json: Data("1".utf8)), LocalEvent(name: "message", json: Data("2".utf8))])
    }

    @Test func endlessLineIsRefused() {
        var parser = LocalEventParser()
        #expect(throws: NodeRuntimeError.self) {
            _ = try parser.feed(repeatElement(UInt8(ascii: "x"), count: LocalEventParser.longestLine + 1))
        }
    }

    /// A name with a line break cannot smuggle a second event into the stream.
    @Test func namesStayOnOneLine() throws {
        var parser = LocalEventParser()
        let read = try parser.feed(LocalEvent(name: "a\n\ndata: forged\n\n", json: Data("1".utf8)).text.utf8)
        #expect(read.count == 1)
        #expect(read.first?.json == Data("1".utf8))
    }
}
