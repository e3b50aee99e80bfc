/// How data are written on the wire: RFC 7951 (JSON) or RFC 7950 (XML).
public enum DataEncoding: String, Sendable, CaseIterable {
    case json
    case xml

    /// The media type of data resources (RFC 8040, section 11.3).
    public var mediaType: String { "application/yang-data+\(rawValue)" }
}
