// The two spellings of time: HTTP's (RFC 9110, section 5.6.7) and YANG's date-and-time (RFC 6991, section 3).

package import Foundation

/// Days, hours and so on in UTC.
struct CivilTime {
    var (year, month, day, hour, minute, second) = (1970, 1, 1, 0, 0, 0)

    /// - Parameter seconds: since 1970.
    init(seconds: Int) {
        let days = Int((Double(seconds) / 86_400).rounded(.down))
        let rest = seconds - days * 86_400
        (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60)
        // Howard Hinnant's civil-from-days: eras of 400 years that begin on 1 March.
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// Nil where there is no such time.
    init?(_ year: Int, _ month: Int, _ day: Int, _ hour: Int, _ minute: Int, _ second: Int) {
        guard (0...9999).contains(year), (1...12).contains(month), (0...23).contains(hour), (0...59).contains(minute),
            (0...60).contains(second), day >= 1
        else { return nil }
        (self.year, self.month, self.day, self.hour, self.minute, self.second) = (year, month, day, hour, minute, second)
        // What does not come back the same is 30 February or the like; a leap second may.
        let back = CivilTime(seconds: seconds - second)
        guard back.day == day, back.month == month else { return nil }
    }

    /// Since 1970.
    var seconds: Int {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return (era * 146_097 + dayOfEra - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
    }

    /// 0 is Sunday.
    var weekday: Int { (((seconds - (seconds % 86_400 + 86_400) % 86_400) / 86_400 + 4) % 7 + 7) % 7 }
}

private func padded(_ number: Int, _ digits: Int = 2) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

package enum HTTPDate {
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    package static func text(_ date: Date) -> String {
        let time = CivilTime(seconds: Int(date.timeIntervalSince1970.rounded(.down)))
        return "\(days[time.weekday]), \(padded(time.day)) \(months[time.month - 1]) \(padded(time.year, 4)) "
            + "\(padded(time.hour)):\(padded(time.minute)):\(padded(time.second)) GMT"
    }

    /// Nil for anything else than that form: a recipient ignores a condition whose date it cannot read (RFC 9110, section 13.1.4).
    package static func parse(_ text: String) -> Date? {
        let parts = text.split(separator: " ")
        guard parts.count == 6, parts[5] == "GMT", days.contains(String(parts[0].dropLast())), let day = Int(parts[1]),
            let month = months.firstIndex(of: String(parts[2])), let year = Int(parts[3])
        else { return nil }
        let clock = parts[4].split(separator: ":").compactMap { $0.count == 2 ? Int($0) : nil }
        guard clock.count == 3, let time = CivilTime(year, month + 1, day, clock[0], clock[1], clock[2]) else { return nil }
        return Date(timeIntervalSince1970: Double(time.seconds))
    }
}

/// YANG's date-and-time: `2014-10-25T10:02:00.5+02:00`.
package enum DateAndTime {
    package static func text(_ date: Date) -> String {
        let milliseconds = Int((date.timeIntervalSince1970 * 1000).rounded())
        let seconds = Int((Double(milliseconds) / 1000).rounded(.down))
        let time = CivilTime(seconds: seconds)
        return "\(padded(time.year, 4))-\(padded(time.month))-\(padded(time.day))T"
            + "\(padded(time.hour)):\(padded(time.minute)):\(padded(time.second)).\(padded(milliseconds - seconds * 1000, 3))Z"
    }

    package static func parse(_ text: String) -> Date? {
        let pattern = /(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))/
        guard text.utf8.count <= 64, let found = text.wholeMatch(of: pattern)?.output, let year = Int(found.1), let month = Int(found.2),
            let day = Int(found.3), let hour = Int(found.4), let minute = Int(found.5), let second = Int(found.6),
            let time = CivilTime(year, month, day, hour, minute, second)
        else { return nil }
        var seconds = Double(time.seconds) + (found.7.flatMap { Double("0" + $0) } ?? 0)
        if let sign = found.8, let hours = found.9.flatMap({ Int($0) }), let minutes = found.10.flatMap({ Int($0) }) {
            guard hours <= 14, minutes < 60 else { return nil }
            seconds -= Double(hours * 3600 + minutes * 60) * (sign == "-" ? -1 : 1)
        }
        return Date(timeIntervalSince1970: seconds)
    }
}
