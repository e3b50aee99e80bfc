// What the agent asks of the two services; the program joins these to their local sockets.

public import Foundation
public import NodeAPI
public import QKDModel

/// Why a service did not do what it was asked.
public enum ServiceProblem: Error, Sendable, Equatable, CustomStringConvertible {
    /// It does not answer.
    case away(String)
    /// It said no, in its words.
    case refused(String)
    /// It could not, in its words.
    case failed(String)

    public var description: String {
        switch self {
        case .away(let reason), .refused(let reason), .failed(let reason): reason
        }
    }
}

public protocol LinkServicePort: Sendable {
    func status() async throws(ServiceProblem) -> LinkServiceStatus
    func plan(of link: LinkID) async throws(ServiceProblem) -> LinkPlan
    /// Whether such a link could be prepared, also in place of one that runs; nothing is changed.
    func check(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem)
    func prepare(_ link: LinkID, _ plan: LinkPlan) async throws(ServiceProblem)
    func commit(_ link: LinkID) async throws(ServiceProblem)
    func setEnabled(_ isEnabled: Bool, _ link: LinkID) async throws(ServiceProblem)
    func remove(_ link: LinkID) async throws(ServiceProblem)
    func add(_ peer: LinkPeerRequest) async throws(ServiceProblem)
    func remove(peer: NodeID) async throws(ServiceProblem)
    /// Ends when the service goes away.
    func events() -> AsyncStream<LinkServiceEvent>
}

public protocol StoreServicePort: Sendable {
    func status() async throws(ServiceProblem) -> StoreStatus
    func applications() async throws(ServiceProblem) -> [StoreApplication]
    /// One pair with its whole account.
    func application(_ id: UUID) async throws(ServiceProblem) -> StoreApplication
    func add(_ peer: StorePeerPlan) async throws(ServiceProblem)
    func remove(peer: NodeID) async throws(ServiceProblem)
    func register(_ plan: StoreApplicationPlan) async throws(ServiceProblem)
    func forget(_ application: UUID) async throws(ServiceProblem)
    func events() -> AsyncStream<StoreEvent>
}
