// What a WDM coexistence plan must agree with: itself, and the wavelengths of links.

import Foundation

/// Links, applications and fibres of the running configuration: as last read, and over that what was changed since, because a change is in force before
/// it can be read.
struct CoexistenceGround: Sendable {
    private var read = DesiredConfiguration()
    private var links: [UUID: DesiredConfiguration.Link?] = [:]
    private var applications: [UUID: DesiredConfiguration.Application?] = [:]
    private var fibres: [String: DesiredConfiguration.Fibre?] = [:]

    mutating func read(_ configuration: DesiredConfiguration) {
        read = configuration
        links = links.filter { configuration.links[$0.key] != $0.value }
        applications = applications.filter { configuration.applications[$0.key] != $0.value }
        fibres = fibres.filter { configuration.fibres[$0.key] != $0.value }
    }

    /// - Parameters: what a change names, before it and after it.
    mutating func change(_ before: DesiredConfiguration, _ after: DesiredConfiguration) {
        for id in Set(before.links.keys).union(after.links.keys) { links.updateValue(after.links[id], forKey: id) }
        for id in Set(before.applications.keys).union(after.applications.keys) {
            applications.updateValue(after.applications[id], forKey: id)
        }
        for name in Set(before.fibres.keys).union(after.fibres.keys) { fibres.updateValue(after.fibres[name], forKey: name) }
    }

    var configuration: DesiredConfiguration {
        var all = DesiredConfiguration()
        all.links = read.links.filter { links[$0.key] == nil }.merging(links.compactMapValues { $0 }) { $1 }
        all.applications = read.applications.filter { applications[$0.key] == nil }.merging(applications.compactMapValues { $0 }) { $1 }
        all.fibres = read.fibres.filter { fibres[$0.key] == nil }.merging(fibres.compactMapValues { $0 }) { $1 }
        return all
    }
}

extension DesiredConfiguration {
    /// The first thing in the plan that cannot be, among fibres and links that `change` touches; nil if there is none.
    func coexistenceProblem(touching change: DesiredConfiguration) -> ConfigurationProblem? {
        for fibre in fibres.values.sorted(by: { $0.name < $1.name }) {
            let isTouched = change.fibres[fibre.name] != nil
            if isTouched, let problem = fibre.clash { return problem }
            for channel in fibre.channels where channel.use == "quantum" {
                guard let id = channel.link, let link = links[id], let wanted = link.gridChannel, wanted != channel.number else { continue }
                guard isTouched || change.links[id] != nil else { continue }
                let message = "fibre '\(fibre.name)' of the plan has this link in channel \(channel.number), phys_wavelength is \(wanted)"
                let place = isTouched ? fibre.place(of: channel) : DesiredConfiguration.place(link: id.uuidString.lowercased())
                return .init(path: place + (isTouched ? "/number" : "/phys_wavelength"), message: message)
            }
        }
        return nil
    }
}

extension DesiredConfiguration.Fibre {
    func place(of channel: Channel) -> String {
        DesiredConfiguration.place(fibre: name) + "/channel[number='\(channel.number)'][direction='\(channel.direction)']"
    }

    /// Quantum light and data in one channel, whichever way each goes: scattering and reflections alone would drown it.
    fileprivate var clash: ConfigurationProblem? {
        let data = Set(channels.filter { $0.use == "classical" }.map(\.number))
        guard let channel = channels.first(where: { $0.use != "classical" && data.contains($0.number) }) else { return nil }
        return .init(
            path: place(of: channel) + "/use",
            message: "channel \(channel.number) of fibre '\(name)' carries data: it cannot be \(channel.use), too")
    }
}
