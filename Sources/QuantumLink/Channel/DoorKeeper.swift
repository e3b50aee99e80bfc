// Who waits at the channel's port without having shown a tag yet. Places are few; whoever says nothing makes room for whoever comes.

/// The guests of one listener. A value.
package struct DoorKeeper: Sendable {
    private struct Guest: Sendable {
        var id: Int
        var address: String
        var isPeer: Bool
        var hasSpoken = false
    }

    package static let places = 32
    package static let placesPerAddress = 6

    /// Oldest first.
    private var guests: [Guest] = []
    private var lastID = 0
    /// Those that had to go so that others could come.
    package private(set) var shown = 0

    package init() {}

    package var count: Int { guests.count }

    /// - Parameter isPeer: it comes from an address that the configuration knows.
    /// - Returns: its number, and whose connection must be closed for it.
    package mutating func enter(from address: String, isPeer: Bool) -> (id: Int, evicted: Int?) {
        let own = guests.filter { $0.address == address }
        var leaves: Guest?
        if own.count >= Self.placesPerAddress {
            leaves = own.first { !$0.hasSpoken } ?? own.first
        } else if guests.count >= Self.places {
            leaves =
                guests.first { !$0.hasSpoken && !$0.isPeer } ?? guests.first { !$0.hasSpoken } ?? guests.first { !$0.isPeer }
                ?? guests.first
        }
        if let leaves {
            leave(leaves.id)
            shown += 1
        }
        lastID += 1
        guests.append(Guest(id: lastID, address: address, isPeer: isPeer))
        return (lastID, leaves?.id)
    }

    /// It has said which link it is about.
    package mutating func spoke(_ id: Int) {
        if let place = guests.firstIndex(where: { $0.id == id }) { guests[place].hasSpoken = true }
    }

    package mutating func leave(_ id: Int) { guests.removeAll { $0.id == id } }
}
