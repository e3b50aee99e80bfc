public import Foundation

/// The YANG modules that a server implements.
public final class YANGSchema: Sendable {
    /// - Parameters:
    ///   - folders: where `name.yang` and `name@revision.yang` files lie; the first that has a module wins.
    ///   - modules: what is implemented: `name` or `name@revision`; what they import is found in the folders.
    public init(folders: [String], modules: [String]) throws(RESTCONFError) {
        throw RESTCONFError(.application, .operationNotSupported, "the schema is not read yet")
    }

    /// The body of a notification (RFC 8040, section 6.4), validated.
    /// - Parameters:
    ///   - name: `module:notification`.
    ///   - contents: what stands inside the notification, as a JSON object with the names of RFC 7951.
    public func notification(_ name: String, contents: String, time: Date, encoding: DataEncoding) throws(RESTCONFError) -> Data {
        throw RESTCONFError(.application, .operationNotSupported, "notifications are not checked yet")
    }
}
