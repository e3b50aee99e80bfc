import CTransport

/// Opens a pty: the master's descriptor, and the path that a driver opens. Only tests need one; Swift's Glibc lacks the calls.
package func openPseudoTerminal() throws -> (master: Int32, path: String) {
    var name = [CChar](repeating: 0, count: 128)
    let fd = name.withUnsafeMutableBufferPointer { transport_pty_open($0.baseAddress, $0.count) }
    guard fd >= 0 else { throw TransportError.cannotOpen("pty", reason: systemError(-fd)) }
    return (fd, name.withUnsafeBufferPointer { buffer in buffer.baseAddress.map { String(cString: $0) } ?? "" })
}
