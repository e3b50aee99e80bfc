// What a link service refuses before anything runs: a configuration that cannot work is said at once, not retried for ever.

internal import Foundation
internal import PostProcessing
internal import QKDModel

extension LinkService {
    /// All that keeps a configuration from working. Nothing is opened or changed, also beside a running service.
    public static func problems(in configuration: LinkServiceConfiguration) -> [String] {
        var problems: [String] = []
        for link in configuration.links {
            do {
                try check(link, configuration, peers: configuration.peers, beside: configuration.links)
                guard let peer = configuration.peers.first(where: { $0.node == link.settings.identity.peer }) else { continue }
                guard let path = peer.secret.map({ secretPath($0, configuration) }), FileManager.default.fileExists(atPath: path)
                else { continue }
                _ = try InstalledSecret(path: path)
            } catch { problems.append("\(error)") }
        }
        return problems
    }

    /// As the configuration file's links are checked, beside all that is there now.
    func check(_ link: LinkServiceConfiguration.Link) throws {
        let id = link.settings.identity.link
        let others = links.values.map(\.link) + prepared.values.map(\.link)
        try Self.check(
            link, configuration, peers: peers.values.map(\.peer), beside: others.filter { $0.settings.identity.link != id } + [link])
        if let view = deviceViews[link.device], let reason = Self.trouble(with: link.settings, on: view) {
            throw QuantumLinkError.configuration("link \(id): \(reason)")
        }
    }

    /// What the device, as far as it has said what it is, cannot do.
    static func trouble(with settings: LinkSettings, on device: DeviceView) -> String? {
        if let role = device.role, role != settings.identity.role {
            return "role is \(settings.identity.role.rawValue): '\(device.name)' is a \(role.rawValue)"
        }
        if settings.identity.role == .transmitter, !device.paths.isEmpty, !device.paths.contains(settings.path) {
            return "path is '\(settings.path)': '\(device.name)' has \(device.paths.joined(separator: ", "))"
        }
        guard let number = settings.gridChannel, let range = device.wavelengths, range.count == 2 else { return nil }
        let possible = GridChannel.numbers(between: range[0], and: range[1])
        if let possible, possible.contains(number) { return nil }
        let words = possible.map { "\($0.lowerBound) to \($0.upperBound) are" } ?? "none is"
        return "grid_channel is \(number): \(words) possible with '\(device.name)', \(range[0]) to \(range[1]) nm"
    }

    static func check(
        _ link: LinkServiceConfiguration.Link, _ configuration: LinkServiceConfiguration, peers: [LinkServiceConfiguration.Peer],
        beside others: [LinkServiceConfiguration.Link]
    ) throws {
        let (identity, settings) = (link.settings.identity, link.settings)
        func refuse(_ what: String) -> QuantumLinkError { .configuration("link \(identity.link): \(what)") }
        guard configuration.devices.contains(where: { $0.name == link.device }) else { throw refuse("there is no device '\(link.device)'") }
        guard peers.contains(where: { $0.node == identity.peer }) else { throw refuse("there is no peer '\(identity.peer)'") }
        guard others.filter({ $0.settings.identity.peer == identity.peer }).count <= 1 else {
            throw refuse("two links to '\(identity.peer)' would share one secret: one link per peer")
        }
        guard others.filter({ $0.settings.identity.link == identity.link }).count <= 1 else { throw refuse("it is listed twice") }
        for other in others where other.device == link.device && other.settings.identity.link != identity.link {
            guard identity.role == .transmitter, other.settings.identity.role == .transmitter else {
                throw refuse("a receiver serves one link, '\(link.device)' is asked to serve two")
            }
        }
        if identity.role == .receiver, configuration.listen == nil { throw refuse("the receiver's end needs 'channel: { listen: ... }'") }
        if let reason = trouble(with: settings) { throw refuse(reason) }
    }

    /// Numbers that no block can work with, or nil.
    package static func trouble(with settings: LinkSettings) -> String? {
        let named = settings.code == LinkSettings.automatic ? ReconciliationCode.all.first : try? ReconciliationCode.named(settings.code)
        guard let code = named else {
            return "there is no code '\(settings.code)': \(ReconciliationCode.all.map(\.id).joined(separator: ", ")) are, and auto"
        }
        for (name, symbols) in [("block_symbols", settings.blockSymbols), ("slot_symbols", settings.slotSymbols)] {
            guard (code.frameSymbols...4_000_000_000).contains(symbols) else {
                return "\(name) is \(symbols): \(code.frameSymbols) to 4000000000 are possible with code \(code.id)"
            }
        }
        guard settings.slotSymbols <= 2 * settings.blockSymbols else { return "slot_symbols is more than a block needs" }
        if let efficiency = settings.efficiency, !(0.5...0.99).contains(efficiency) {
            return "efficiency is \(efficiency): 0.5 to 0.99 are possible, or auto"
        }
        if let variance = settings.variance, !ModulationTuner.range.contains(variance) {
            return "variance is \(variance): 0.1 to 20 are possible, or auto"
        }
        if let channel = settings.gridChannel, !(1...9999).contains(channel) {
            return "grid_channel is \(channel): it is a number of the 100 GHz grid, such as 34 for 1550.12 nm"
        }
        guard settings.weight > 0, settings.weight < 1e9 else { return "weight is \(settings.weight): it must be positive" }
        guard (0...100).contains(settings.loss.value) else { return "loss_db is \(settings.loss.value): 0 to 100 are possible" }
        guard (0...0.1).contains(settings.driftAllowance) else {
            return "drift_allowance is \(settings.driftAllowance): 0 to 0.1 are possible"
        }
        guard (0.01...100).contains(settings.calibrationRatio) else {
            return "calibration_ratio is \(settings.calibrationRatio): 0.01 to 100 are possible"
        }
        return trouble(epsilon: settings, code)
    }

    /// What hashing promises must be below what the budget gives it, and the seed must fit a message.
    static func trouble(epsilon settings: LinkSettings, _ code: ReconciliationCode) -> String? {
        guard (1e-15...1e-2).contains(settings.epsilon), let budget = try? SecurityBudget(total: settings.epsilon) else {
            return "epsilon is \(settings.epsilon): 1e-15 to 0.01 are possible"
        }
        let rawBytes = settings.blockSymbols / code.frameSymbols * code.coreBits / 8
        guard BlockVerification.collisionProbability(bytes: UInt64(rawBytes)) <= budget.correctness else {
            return "epsilon is \(settings.epsilon): the block's hash of \(BlockVerification.digestBits) bits cannot promise so much over "
                + "\(settings.blockSymbols) symbols; a larger epsilon or smaller block_symbols"
        }
        let seed = ToeplitzHash.seedBytes(inputBits: 8 * rawBytes, outputBits: 8 * rawBytes)
        guard seed + 4096 <= MessageCodec.limit else {
            return
                "block_symbols is \(settings.blockSymbols): its seed would not fit a message of \(MessageCodec.limit >> 20) MiB; at most "
                + "\((MessageCodec.limit - 4096) * 4 / max(1, code.coreBits) * code.frameSymbols) with code \(code.id)"
        }
        return nil
    }

    /// Installs what lies ready for a link.
    static func install(
        _ link: LinkServiceConfiguration.Link, _ peer: LinkServiceConfiguration.Peer?, _ configuration: LinkServiceConfiguration,
        _ database: LinkDatabase, isCheck: Bool = false
    ) throws {
        // Without its file a link goes on with what is installed; with neither it alarms and waits for a secret.
        guard let path = peer?.secret.map({ secretPath($0, configuration) }), FileManager.default.fileExists(atPath: path) else { return }
        let secret = try InstalledSecret(path: path)
        if isCheck { return }
        if try !database.install(secret, on: link.settings.identity.link) {
            guard try database.owner(of: secret.epoch) == link.settings.identity.link else {
                throw QuantumLinkError.badSecret("\(path) serves another link already")
            }
        }
        // Also when an earlier start was killed between the two steps.
        try InstalledSecret.consume(path: path)
    }

    static func secretPath(_ secret: String, _ configuration: LinkServiceConfiguration) -> String {
        guard let folder = configuration.secrets, !secret.contains("/") else { return secret }
        return folder + "/" + secret
    }
}
