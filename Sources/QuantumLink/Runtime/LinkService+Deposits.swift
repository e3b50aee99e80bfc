// Committed blocks go to the key store, again and again until it has them or has said that it never will.

internal import Foundation
internal import Logging
internal import QKDModel

extension LinkService {
    func deposit() async {
        var pause = Duration.milliseconds(250)
        while !Task.isCancelled {
            do {
                let (pending, trouble) = try await depositAll()
                show(pending: trouble == nil ? 0 : pending)
                if let trouble { throw trouble }
                pause = .milliseconds(250)
                if pending == 0 { _ = await wake.next() }
            } catch {
                logger.warning("deposit failed, it will be repeated: \(describe(error))")
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(10))
            }
        }
    }

    /// Each block by itself: one that is not taken does not keep the others.
    /// - Returns: how many waited, and what kept one of them.
    private func depositAll() async throws -> (waited: Int, trouble: (any Error)?) {
        let pending = try database.pendingDeposits()
        var trouble: (any Error)?
        for block in pending {
            do {
                // A role is missing in blocks of an earlier version only.
                let context = links[block.link]?.context
                let role = block.role ?? context?.settings.identity.role
                let start = context?.clock.now ?? .zero
                try await sink.deposit(block, firstEnd: role == .transmitter)
                try database.markDeposited(block.block)
                if let context { context.monitor.deposited(block.block, after: context.clock.now - start) }
            } catch let refused as DepositRefused {
                try refuse(block, refused)
            } catch {
                trouble = trouble ?? error
            }
        }
        return (pending.count, trouble)
    }

    private func refuse(_ block: PendingDeposit, _ refused: DepositRefused) throws {
        try database.markRefused(block.block)
        let text = "the key store will never take block \(block.block), its key is erased here: \(refused.reason)"
        if let monitor = links[block.link]?.context.monitor {
            monitor.raise("deposit", .major, text)
        } else {
            logger.error("\(text)", metadata: ["link": "\(block.link)"])
            hub.send(ServiceEvent(kind: "alarm", text: text, link: block.link))
        }
    }

    private func show(pending: Int) {
        for running in links.values { running.context.monitor.update { $0.pendingDeposits = pending } }
    }
}
