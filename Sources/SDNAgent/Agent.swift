// The agent at work: asks both services, feeds the state machine, keeps the tree and hands notifications to the sinks.

import Foundation
public import Logging
import NodeAPI
import QKDModel
public import RESTCONF

public actor Agent {
    public struct Status: Sendable, Equatable {
        public var notifications: UInt64 = 0
        /// Notifications and states that the schema refused; always 0 unless this program is wrong.
        public var refused: UInt64 = 0
    }

    public nonisolated let datastore: Datastore
    public nonisolated let streams: EventStreams
    private let links: any LinkServicePort
    private let store: any StoreServicePort
    private let target: ServicesTarget
    private let sink: RabbitMQSink?
    private let numbersPath: String
    private let logger: Logger
    private let poll: Duration
    private var model: NodeModel
    private var notedDevices: [UInt32: String] = [:]
    private var shownState = ""
    private var configurationText = ""
    private var configurationTag = ""
    private var reconciled = (links: false, store: false)
    private var wasHere: (links: Bool?, store: Bool?) = (nil, nil)
    private var watch: RepairWatch
    public private(set) var status = Status()

    /// - Parameters:
    ///   - folder: where configuration and interface numbers are kept; made if needed.
    ///   - poll: how often the services are asked, beside listening to their events.
    /// - Throws: `RESTCONFError` or `SDNAgentError` where the folder or what is in it cannot be used.
    public init(
        _ settings: NodeSettings, schema: YANGSchema, folder: String, links: any LinkServicePort, store: any StoreServicePort,
        sink: RabbitMQSink? = nil, poll: Duration = .seconds(1), logger: Logger = Logger(label: "agent")
    ) throws {
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        numbersPath = folder + "/interfaces.json"
        (self.links, self.store, self.sink, self.logger, self.poll) = (links, store, sink, logger, poll)
        watch = RepairWatch(shortest: max(.seconds(1), poll * 3))
        target = ServicesTarget(settings: settings, links: links, store: store, logger: logger)
        let initial = JSON.object([YANGNames.node: .object(["qkdn_id": .string(settings.id.uuidString.lowercased())])])
        datastore = try Datastore(schema: schema, folder: folder + "/running", initial: initial.text, target: target)
        streams = EventStreams(schema: schema)
        model = NodeModel(settings, numbers: try Self.readNumbers(numbersPath))
    }

    /// Until cancelled.
    /// - Parameter onRound: told after every round of questions how the node is, in one sentence.
    public func run(onRound: @escaping @Sendable (String) -> Void = { _ in }) async throws {
        let (wake, bell) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        await target.onChange {
            bell.yield()
            // The tree has the change a moment after the services have it; its state should be there when the client asks.
            Task {
                try await Task.sleep(for: .milliseconds(20))
                bell.yield()
            }
        }
        await noteOrigin()
        await readConfiguration()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.listenToLinks(bell) }
            group.addTask { await self.listenToStore(bell) }
            group.addTask { [poll] in
                while !Task.isCancelled {
                    bell.yield()
                    try await Task.sleep(for: poll)
                }
            }
            if let sink { group.addTask { await sink.run() } }
            group.addTask {
                for await _ in wake {
                    await self.look()
                    onRound(await self.sentence)
                }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    /// The file of access rules was read again.
    /// - Parameter problem: why the old rules stay in force; nil where the new ones are.
    public func noteAccessRules(problem: String?) async { await take(.accessRules(problem: problem)) }

    /// What was lost of the configuration is for the log and for whoever listens.
    private func noteOrigin() async {
        switch datastore.origin {
        case .fresh, .restored: break
        case .setAside(let files, let reason):
            logger.error(
                "the configuration cannot be used, the node's initial one is in force: \(reason)",
                metadata: ["set_aside": "\(files.joined(separator: " "))"])
            await take(.configurationLost(files: files, reason: reason, isWhole: true))
        case .damaged(let files, let reason):
            logger.error(
                "a part of the configuration is lost, what came before it is in force: \(reason)",
                metadata: ["set_aside": "\(files.joined(separator: " "))"])
            await take(.configurationLost(files: files, reason: reason, isWhole: false))
        }
    }

    private var sentence: String {
        let active = model.links.values.count { $0.told == .active }
        return "\(model.status): \(model.interfaces.count) interfaces, \(active) of \(model.links.count) links active"
    }

    // MARK: Looking

    /// One round: both services, the configuration, the tree.
    func look() async {
        await readConfiguration()
        let quiet = target.quiet
        do {
            let status = try await links.status()
            await take(.linkService(status), since: quiet)
            if !reconciled.links {
                reconciled.links = true
                await target.reconcile(model.desired, linkService: true)
            }
            await repair(status, since: quiet)
        } catch {
            reconciled.links = false
            await take(.linkServiceAway("\(error)"))
        }
        for link in model.linksWithoutPlan {
            if let plan = try? await links.plan(of: link) { await take(.plan(link, plan), since: quiet) }
        }
        do {
            await take(.store(try await store.status(), try await store.applications()), since: quiet)
            for id in model.applicationsWithoutAccount {
                if let whole = try? await store.application(id) { await take(.account(whole)) }
            }
            if !reconciled.store {
                reconciled.store = true
                await target.reconcile(model.desired, linkService: false)
            }
        } catch {
            reconciled.store = false
            await take(.storeAway("\(error)"))
        }
        if let sink { await take(.notificationsLost(sink.outbox.counts.dropped)) }
        await show()
    }

    /// Puts in force again what the link service has lost while it was here: an operator's hand, or a start that nobody noticed.
    private func repair(_ status: LinkServiceStatus, since quiet: UInt64?) async {
        let lacks = model.desired.lacks(status)
        let mark = quiet.flatMap { $0 == target.quiet ? "\($0) \(configurationTag)" : nil }
        guard watch.isDue(lacking: lacks != nil, mark: mark, at: .now) else { return }
        logger.notice("the link service has lost \(lacks ?? ""): putting it in force again")
        await target.reconcile(model.desired, linkService: true, since: quiet)
    }

    private func listenToLinks(_ bell: AsyncStream<Void>.Continuation) async {
        while !Task.isCancelled {
            for await event in links.events() {
                if let device = event.deviceStatus { await take(.device(device)) }
                if let link = event.linkStatus {
                    await take(event.change == .removed ? .linkRemoved(link.link) : .link(link))
                }
                bell.yield()
            }
            try? await Task.sleep(for: poll)
        }
    }

    private func listenToStore(_ bell: AsyncStream<Void>.Continuation) async {
        while !Task.isCancelled {
            for await event in store.events() {
                if let application = event.application { await take(.application(application, event.kind)) }
                bell.yield()
            }
            try? await Task.sleep(for: poll)
        }
    }

    private func readConfiguration() async {
        guard let (text, tag) = try? await datastore.taggedConfiguration() else { return }
        configurationTag = tag
        guard text != configurationText else { return }
        configurationText = text
        do {
            let configuration = try DesiredConfiguration(parsing: text)
            await target.note(peers: configuration.peers)
            await target.note(running: configuration)
            await take(.configuration(configuration))
        } catch {
            logger.error("the running configuration cannot be read: \(error)")
        }
    }

    // MARK: Doing

    /// - Parameter quiet: for a whole snapshot, what the target said before it was taken. What the services have and the tree has not is
    ///   taken over only from snapshots during which nobody changed the configuration: it could be of a change that is not in force yet.
    func take(_ input: NodeInput, since quiet: UInt64? = nil) async {
        model.mayAdopt = quiet != nil && quiet == target.quiet
        let outputs = model.input(input, at: Date())
        // Before the tree shows an interface: whoever sees it there may name it at once.
        if model.devices != notedDevices {
            notedDevices = model.devices
            await target.note(devices: notedDevices)
        }
        guard !outputs.isEmpty else { return }
        var isMerged = false
        for output in outputs {
            switch output {
            case .notify(let notification): await tell(notification)
            case .merge(let document): isMerged = await merge(document) || isMerged
            case .removeInterface(let number): isMerged = await removeInterface(number) || isMerged
            case .keepNumbers(let numbers): keep(numbers)
            }
        }
        if isMerged { await readConfiguration() }
    }

    private func tell(_ notification: NodeNotification) async {
        do {
            let made = try await streams.publish("etsi-qkd-sdn-node:\(notification.name)", notification.contents.text)
            status.notifications += 1
            sink?.outbox.take(
                OutgoingNotification(name: notification.name, object: notification.object, weight: notification.weight, body: made.json))
            logger.info("\(notification.name)", metadata: ["object": "\(notification.object)"])
        } catch {
            status.refused += 1
            logger.error("a notification was refused by the schema: \(error)", metadata: ["name": "\(notification.name)"])
        }
    }

    private func merge(_ document: JSON) async -> Bool {
        do {
            guard let tag = try await datastore.apply(document.text, ifMatch: configurationTag) else {
                // Somebody was quicker: looked at again in the next round, beside what is configured then.
                model.forgetMerges()
                return false
            }
            configurationTag = tag
            return true
        } catch {
            status.refused += 1
            logger.error("the tree refused an entry of the node's own: \(error)")
            return false
        }
    }

    private func removeInterface(_ number: UInt32) async -> Bool {
        do {
            let path = try ResourcePath(
                parsing: "etsi-qkd-sdn-node:qkd_node/qkd_interfaces/qkd_interface=\(number)", schema: datastore.schema)
            try await datastore.apply(nil, at: path)
            return true
        } catch {
            logger.error("interface \(number) could not leave the tree: \(error)")
            return false
        }
    }

    private func show() async {
        while true {
            let text = model.state(at: Date()).text
            guard text != shownState else { return }
            do {
                try await datastore.setState(text)
                shownState = text
                return
            } catch {
                // State of an entry that has just been deleted has no place any more.
                let tag = configurationTag
                await readConfiguration()
                guard tag == configurationTag else { continue }
                status.refused += 1
                return logger.error("the tree refused the node's state: \(error)")
            }
        }
    }

    // MARK: Interface numbers

    private static func readNumbers(_ path: String) throws(SDNAgentError) -> [String: UInt32] {
        guard FileManager.default.fileExists(atPath: path) else { return [:] }
        do { return try JSONDecoder().decode([String: UInt32].self, from: Data(contentsOf: URL(filePath: path))) } catch {
            throw .state(path: path, reason: "\(error)")
        }
    }

    private func keep(_ numbers: [String: UInt32]) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        do { try encoder.encode(numbers).write(to: URL(filePath: numbersPath), options: .atomic) } catch {
            logger.error("interface numbers cannot be kept: \(error)", metadata: ["file": "\(numbersPath)"])
        }
    }
}

extension NodeModel {
    /// Device names by interface.
    var devices: [UInt32: String] { interfaces.mapValues(\.device.name) }
}
