// What the schedule says of itself.

import QKDModel
import QuantumLink
import Testing

@Suite("The schedule's loss")
struct ScheduleTests {
    private let norte = LinkID(unchecked: "norte")
    private let concepcion = LinkID(unchecked: "concepcion")

    /// Slots of 20 and 30 s in turn, each with a quarter of a second to open.
    @Test("The schedule's loss is what lies between slots, at whatever moment one asks; a link that gets no turn any more counts")
    func scheduleLoss() {
        var schedule = SlotSchedule()
        schedule.enter(norte, weight: 40)
        schedule.enter(concepcion, weight: 60)
        var time = 0.0
        for turn in 0..<20 {
            for link in [norte, concepcion] { schedule.update(link, ready: true, wanted: 1000, slotFrames: 10) }
            guard let link = schedule.next()?.link else { Issue.record("no grant"); return }
            let length = link == norte ? 20.0 : 30.0
            // In the middle of a slot, too.
            for part in [0.4, 1] {
                schedule.elapsed(time + 0.25 + part * length)
                if turn > 3 { #expect(abs(schedule.report().scheduleEfficiency - 50 / 50.5) < 1e-9) }
            }
            time += 0.25 + length
            schedule.finished(link, symbols: 1, seconds: length, refused: false)
        }
        for link in schedule.report().links { #expect(link.sharingPenalty == 0 && link.slots == 10) }
        // One of them only, from here on.
        for _ in 0..<20 {
            schedule.update(norte, ready: true, wanted: 1000, slotFrames: 10)
            schedule.update(concepcion, ready: false, wanted: 1000, slotFrames: 10)
            guard let link = schedule.next()?.link else { Issue.record("no grant"); return }
            #expect(link == norte)
            time += 20.25
            schedule.elapsed(time)
            schedule.finished(link, symbols: 1, seconds: 20, refused: false)
        }
        #expect(schedule.report().scheduleEfficiency < 0.7)
    }
}
