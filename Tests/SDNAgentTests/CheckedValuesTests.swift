// Values of the agent's configuration file that are outside their ranges.

import Foundation
import SDNAgent
import Testing

@Suite struct CheckedValuesTests {
    private struct File: Decodable {
        var share: ThresholdShare?
        var hold: ThresholdSeconds?
        var location: YANGText?
    }

    private func refusal(_ text: String) -> String? {
        do {
            _ = try JSONDecoder().decode(File.self, from: Data(text.utf8))
            return nil
        } catch DecodingError.dataCorrupted(let context) {
            return context.codingPath.map(\.stringValue).joined() + ": " + context.debugDescription
        } catch {
            return "\(error)"
        }
    }

    @Test("thresholds have ranges, and text has the characters of a YANG string")
    func ranges() {
        #expect(refusal(#"{"share":0.1,"hold":604800,"location":"Plaza Mayor\t3 \u00e9 \ud83d\ude00"}"#) == nil)
        #expect(refusal(#"{"share":-1}"#) == "share: -1.0 is not from 0 to 100 times")
        #expect(refusal(#"{"hold":1e300}"#) == "hold: 1e+300 is not from 0 to 604800 s")
        #expect(refusal(#"{"hold":-5}"#) == "hold: -5.0 is not from 0 to 604800 s")
        #expect(refusal(#"{"location":"a\u0001b"}"#) == "location: character U+0001 is none that YANG has in text")
        #expect(refusal(#"{"location":"a\ufffeb"}"#)?.hasPrefix("location: character U+FFFE") == true)
        #expect(refusal(#"{"location":"a\ufdd0b"}"#)?.hasPrefix("location: character U+FDD0") == true)
    }
}
