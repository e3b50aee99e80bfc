/// What keeps a server or client from being set up: files and addresses, never a request.
public enum RESTCONFSetupError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Line 0: the file as a whole.
    case rules(file: String, line: Int, problem: String)
    case certificate(file: String, problem: String)
    case cannotListen(address: String, problem: String)
    case badURL(String)

    public var description: String {
        switch self {
        case .rules(let file, let line, let problem): "access rules '\(file)'\(line > 0 ? " line \(line)" : ""): \(problem)"
        case .certificate(let file, let problem): "'\(file)' \(problem)"
        case .cannotListen(let address, let problem): "cannot listen on \(address): \(problem)"
        case .badURL(let text): "'\(text)' is no https URL"
        }
    }
}
