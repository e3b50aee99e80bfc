// One event, and its text in either encoding (RFC 8040, section 6.4).

public import Foundation
import NIOCore
import Synchronization

/// A notification of the schema that has been checked against it.
public struct Notification: Sendable {
    /// `module:notification`.
    public let name: String
    /// What stands inside the notification, as it was published: a JSON object.
    public let contents: String
    /// When it happened, to the millisecond that its text has.
    public let time: Date
    /// `{"ietf-restconf:notification":{"eventTime":...,"module:notification":{...}}}`
    public let json: Data
    private let texts: NotificationTexts

    /// - Throws: where `contents` is not what the schema asks for.
    init(name: String, contents: String, time: Date, schema: YANGSchema) throws(RESTCONFError) {
        self.name = name
        self.contents = contents
        self.time = Date(timeIntervalSince1970: (time.timeIntervalSince1970 * 1000).rounded() / 1000)
        json = try schema.notification(name, contents: contents, time: self.time, encoding: .json)
        texts = NotificationTexts(schema: schema)
    }

    /// - Throws: only what the schema throws, which has accepted it once.
    public func body(_ encoding: DataEncoding) throws(RESTCONFError) -> Data {
        encoding == .json ? json : try texts.schema.notification(name, contents: contents, time: time, encoding: .xml)
    }

    /// The server-sent event, made once for all subscribers.
    func event(_ encoding: DataEncoding) throws(RESTCONFError) -> ByteBuffer {
        if let made = texts.made.withLock({ $0[encoding] }) { return made }
        let event = EventText.event(try body(encoding))
        texts.made.withLock { $0[encoding] = event }
        return event
    }
}

/// What all copies of one notification share.
private final class NotificationTexts: Sendable {
    let schema: YANGSchema
    let made = Mutex<[DataEncoding: ByteBuffer]>([:])

    init(schema: YANGSchema) { self.schema = schema }
}
