// One connection to a broker: librabbitmq's calls with their errors in words. Blocking; for one thread only.

internal import CRabbitMQ
internal import Foundation
internal import Glibc

/// An open connection with one channel in confirm mode. Delivery tags count published messages from 1.
final class BrokerConnection {
    enum Happening: Equatable {
        case confirmed(through: UInt64, multiple: Bool)
        case refused(through: UInt64, multiple: Bool)
        /// No queue is bound to the exchange for the message just published.
        case unrouted
    }

    private let state: amqp_connection_state_t
    private let address: String
    private let exchange: String
    private static let channel: amqp_channel_t = 1
    private static let patience = timeval(tv_sec: 10, tv_usec: 0)

    /// Connects, logs in, declares the exchange.
    /// - Throws: `SDNAgentError.broker`.
    init(_ settings: BrokerSettings) throws(SDNAgentError) {
        guard let state = amqp_new_connection() else { throw .broker(address: settings.address, reason: "no memory for a connection") }
        self.state = state
        (address, exchange) = (settings.address, settings.exchange)
        try open(settings)
        try logIn(settings)
        try prepare(settings)
    }

    deinit { amqp_destroy_connection(state) }

    /// For poll(2).
    var socket: Int32 { amqp_get_sockfd(state) }

    /// Says goodbye; a broken connection is just left.
    func close() {
        _ = amqp_connection_close(state, AMQP_REPLY_SUCCESS)
    }

    private func open(_ settings: BrokerSettings) throws(SDNAgentError) {
        guard let socket = settings.tls == nil ? amqp_tcp_socket_new(state) : amqp_ssl_socket_new(state) else {
            throw problem("no memory for a socket")
        }
        if let tls = settings.tls { try secure(socket, tls) }
        var patience = Self.patience
        amqp_set_handshake_timeout(state, &patience)
        amqp_set_rpc_timeout(state, &patience)
        try check(amqp_socket_open_noblock(socket, settings.host, Int32(settings.port), &patience), "cannot connect")
        // Bytes that nobody acknowledges for so long mean that the far machine is gone, whatever a blocked write thinks.
        var milliseconds = UInt32(max(settings.heartbeatSeconds, 5) * 1000)
        setsockopt(self.socket, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds, socklen_t(MemoryLayout<UInt32>.size))
    }

    private func secure(_ socket: OpaquePointer, _ tls: BrokerSettings.TLS) throws(SDNAgentError) {
        amqp_ssl_socket_set_verify_peer(socket, 1)
        amqp_ssl_socket_set_verify_hostname(socket, 1)
        try check(amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST), "cannot ask for TLS 1.2 or better")
        try check(amqp_ssl_socket_set_cacert(socket, tls.authorities), "cannot use the authorities in \(tls.authorities)")
        guard let certificate = tls.certificate, let key = tls.key else { return }
        try check(amqp_ssl_socket_set_key(socket, certificate, key), "cannot use the certificate \(certificate) with \(key)")
    }

    private func logIn(_ settings: BrokerSettings) throws(SDNAgentError) {
        let heartbeat = Int32(settings.heartbeatSeconds)
        let reply =
            switch settings.identity {
            case .password(let user, let password):
                sdqkd_amqp_login_plain(state, settings.virtualHost, heartbeat, user, password)
            case .certificate: sdqkd_amqp_login_external(state, settings.virtualHost, heartbeat, "")
            }
        try check(reply, "login")
    }

    private func prepare(_ settings: BrokerSettings) throws(SDNAgentError) {
        amqp_channel_open(state, Self.channel)
        try check(amqp_get_rpc_reply(state), "opening a channel")
        try withBytes(settings.exchange) { exchange throws(SDNAgentError) in
            try withBytes("topic") { topic throws(SDNAgentError) in
                amqp_exchange_declare(state, Self.channel, exchange, topic, 0, 1, 0, 0, amqp_empty_table)
                try check(amqp_get_rpc_reply(state), "declaring the exchange '\(settings.exchange)'")
            }
        }
        amqp_confirm_select(state, Self.channel)
        try check(amqp_get_rpc_reply(state), "asking for publisher confirms")
    }

    // MARK: Messages

    /// Publishes a persistent, mandatory message.
    func publish(_ body: Data, routingKey: String, type: String, messageID: String) throws(SDNAgentError) {
        try withBytes(exchange) { exchange throws(SDNAgentError) in
            try withBytes(routingKey) { key throws(SDNAgentError) in
                try withBytes(type) { type throws(SDNAgentError) in
                    try withBytes(messageID) { messageID throws(SDNAgentError) in
                        try withBytes("application/yang-data+json") { contentType throws(SDNAgentError) in
                            var properties = amqp_basic_properties_t()
                            properties._flags =
                                UInt32(AMQP_BASIC_CONTENT_TYPE_FLAG) | UInt32(AMQP_BASIC_DELIVERY_MODE_FLAG)
                                | UInt32(AMQP_BASIC_MESSAGE_ID_FLAG) | UInt32(AMQP_BASIC_TYPE_FLAG)
                            (properties.content_type, properties.type, properties.message_id) = (contentType, type, messageID)
                            properties.delivery_mode = 2
                            let status = body.withUnsafeBytes { buffer in
                                amqp_basic_publish(
                                    state, Self.channel, exchange, key, 1, 0, &properties,
                                    amqp_bytes_t(len: buffer.count, bytes: UnsafeMutableRawPointer(mutating: buffer.baseAddress)))
                            }
                            try check(status, "publishing")
                        }
                    }
                }
            }
        }
    }

    /// What the broker has said, waiting up to `limit` for the first word. Also sends heartbeats and notices missing ones.
    func hear(within limit: Duration) throws(SDNAgentError) -> [Happening] {
        var happenings: [Happening] = []
        var wait = timeval(tv_sec: Int(limit.components.seconds), tv_usec: Int(limit.components.attoseconds / 1_000_000_000_000))
        var frame = amqp_frame_t()
        while true {
            let status = amqp_simple_wait_frame_noblock(state, &frame, &wait)
            if status == AMQP_STATUS_TIMEOUT.rawValue { break }
            try check(status, "connection lost")
            if let happening = try read(frame) { happenings.append(happening) }
            wait = timeval()
        }
        amqp_maybe_release_buffers(state)
        return happenings
    }

    private func read(_ frame: amqp_frame_t) throws(SDNAgentError) -> Happening? {
        // Header and body of a returned message are passed over.
        guard frame.frame_type == UInt8(AMQP_FRAME_METHOD) else { return nil }
        let method = frame.payload.method
        switch Int(method.id) {
        case Int(sdqkd_amqp_basic_ack):
            guard let ack = method.decoded?.assumingMemoryBound(to: amqp_basic_ack_t.self).pointee else { return nil }
            return .confirmed(through: ack.delivery_tag, multiple: ack.multiple != 0)
        case Int(sdqkd_amqp_basic_nack):
            guard let nack = method.decoded?.assumingMemoryBound(to: amqp_basic_nack_t.self).pointee else { return nil }
            return .refused(through: nack.delivery_tag, multiple: nack.multiple != 0)
        case Int(sdqkd_amqp_basic_return): return .unrouted
        case Int(sdqkd_amqp_channel_close), Int(sdqkd_amqp_connection_close):
            throw problem(Self.words(of: method))
        default: return nil
        }
    }

    // MARK: Errors

    private func problem(_ reason: String) -> SDNAgentError { .broker(address: address, reason: reason) }

    private func check(_ status: Int32, _ what: String) throws(SDNAgentError) {
        guard status != AMQP_STATUS_OK.rawValue else { return }
        throw problem("\(what): \(String(cString: amqp_error_string2(status)))")
    }

    private func check(_ reply: amqp_rpc_reply_t, _ what: String) throws(SDNAgentError) {
        switch reply.reply_type {
        case AMQP_RESPONSE_NORMAL: return
        case AMQP_RESPONSE_LIBRARY_EXCEPTION: try check(reply.library_error, what)
        case AMQP_RESPONSE_SERVER_EXCEPTION: throw problem("\(what): \(Self.words(of: reply.reply))")
        default: throw problem("\(what): no answer")
        }
    }

    private static func words(of method: amqp_method_t) -> String {
        func text(_ code: UInt16, _ bytes: amqp_bytes_t) -> String {
            let words = UnsafeRawBufferPointer(start: bytes.bytes, count: bytes.len)
            return "the broker says \(code), \(String(decoding: words, as: UTF8.self))"
        }
        switch Int(method.id) {
        case Int(sdqkd_amqp_channel_close):
            guard let close = method.decoded?.assumingMemoryBound(to: amqp_channel_close_t.self).pointee else { break }
            return text(close.reply_code, close.reply_text)
        case Int(sdqkd_amqp_connection_close):
            guard let close = method.decoded?.assumingMemoryBound(to: amqp_connection_close_t.self).pointee else { break }
            return text(close.reply_code, close.reply_text)
        default: break
        }
        return "the broker closed the channel"
    }
}

/// The text's bytes for the time of the call.
private func withBytes<R>(_ text: String, _ body: (amqp_bytes_t) throws(SDNAgentError) -> R) throws(SDNAgentError) -> R {
    let copy = Array(text.utf8)
    var result: Result<R, SDNAgentError>?
    copy.withUnsafeBytes { buffer in
        let bytes = amqp_bytes_t(len: buffer.count, bytes: UnsafeMutableRawPointer(mutating: buffer.baseAddress))
        do throws(SDNAgentError) { result = .success(try body(bytes)) } catch { result = .failure(error) }
    }
    guard let result else { throw .broker(address: "", reason: "a text without bytes") }
    return try result.get()
}
