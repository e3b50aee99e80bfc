// The SDN face of a node with 1,000 links: RESTCONF over mutual TLS, event streams, notifications through a broker, memory.

import Foundation

struct AgentSection: BenchSection {
    static let name = "agent"

    private struct Answer: Decodable {
        var links: Int
        var gets_per_second: Double
        var patches_per_second: Double
        var sse_per_second: Double
        var sse_subscribers: Int
        var memory_bytes: Double
        var memory_after_bytes: Double
        var broker_per_second: Double?
    }

    func figures(_ bench: Bench) async throws -> [BenchFigure] {
        let script = "scripts/bench-agent"
        let programs = try Lab.programFolder()
        let files = FileManager.default
        guard files.isExecutableFile(atPath: bench.python), files.fileExists(atPath: script),
            files.isExecutableFile(atPath: programs + "/agent-bench")
        else {
            Output.complain("bench: the agent is not measured: \(bench.python), \(script) or agent-bench beside qkdctl is missing")
            return []
        }
        let answer = try JSONDecoder().decode(Answer.self, from: await bench.output(of: bench.python, [script, programs]))
        // Baseline: every link read, set and told of once in ten seconds.
        let needed = Double(answer.links) / 10
        let node = "node with \(answer.links) links"
        var rows = [
            BenchFigure("\(node), RESTCONF: GET of one, baseline all in 10 s", answer.gets_per_second, "1/s", baseline: needed),
            BenchFigure(
                "\(node), RESTCONF: PATCH of one to disk, baseline all in 10 s", answer.patches_per_second, "1/s", baseline: needed),
            BenchFigure(
                "\(node), notifications to \(answer.sse_subscribers) event streams together, baseline all in 10 s", answer.sse_per_second,
                "1/s",
                baseline: needed * Double(answer.sse_subscribers)),
        ]
        if let rate = answer.broker_per_second {
            rows.append(BenchFigure("\(node), notifications confirmed by RabbitMQ, baseline all in 10 s", rate, "1/s", baseline: needed))
        }
        return rows + [
            BenchFigure("\(node), memory before the first request", answer.memory_bytes, "byte"),
            BenchFigure("\(node), memory after all of these, clients included", answer.memory_after_bytes, "byte"),
        ]
    }
}
