// Entity tags and times of change of data resources (RFC 8040, sections 3.4.1, 3.5.1 and 3.5.2).

import Foundation

/// Remembers, for every place that was edited, when it was; all others are as old as the start.
///
/// A resource's version is the newest edit at it, below it, or of something above it that was created or replaced whole.
struct Versions {
    struct Version: Equatable {
        var number: Int
        var time: Date
    }

    private final class Place {
        /// Newest edit at or below.
        var below: Version
        /// Newest edit of the place itself.
        var itself: Version?
        var children: [String: Place] = [:]
        init(_ version: Version) { below = version }
    }

    private let root: Place
    /// Different after every start, so that no old tag can meet a new one.
    private let epoch: String
    private let start: Version
    private var newest: Version

    init(epoch: String, start: Date) {
        self.epoch = epoch
        self.start = Version(number: 0, time: start)
        newest = self.start
        root = Place(newest)
    }

    /// Notes one edit.
    mutating func note(_ changes: [Differences.Change], at time: Date) {
        newest = Version(number: newest.number + 1, time: time)
        root.below = newest
        for change in changes { note(change) }
    }

    private func note(_ change: Differences.Change) {
        var place = root
        for (index, segment) in change.segments.enumerated() {
            let isLast = index == change.segments.count - 1
            if isLast, change.kind == .delete {
                place.children[segment] = nil
                return
            }
            let next = place.children[segment] ?? Place(newest)
            next.below = newest
            place.children[segment] = next
            place = next
        }
        place.itself = newest
        place.children = [:]
    }

    func version(of path: ResourcePath?) -> Version {
        guard let path else { return root.below }
        var place: Place? = root
        var found = start
        for step in path.steps {
            place = place?.children[ResourcePath(steps: [step]).xpath]
            guard let place else { break }
            if let version = place.itself, version.number > found.number { found = version }
        }
        if let place, place.below.number > found.number { found = place.below }
        return found
    }

    func tag(_ version: Version) -> String { "\(epoch)-\(version.number)" }
}
