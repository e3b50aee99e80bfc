import Foundation

/// The `VmFlags` of the mapping that holds `address`, from `/proc/self/smaps`.
func memoryFlags(at address: UInt) -> Set<String>? {
    guard let file = FileHandle(forReadingAtPath: "/proc/self/smaps"), let data = try? file.readToEnd() else { return nil }
    let map = String(decoding: data, as: UTF8.self)
    var inside = false
    for line in map.split(separator: "\n") {
        let words = line.split(separator: " ")
        if let range = words.first?.split(separator: "-"), range.count == 2, let low = UInt(range[0], radix: 16),
            let high = UInt(range[1], radix: 16)
        {
            inside = (low..<high).contains(address)
        } else if inside, words.first == "VmFlags:" {
            return Set(words.dropFirst().map(String.init))
        }
    }
    return nil
}
