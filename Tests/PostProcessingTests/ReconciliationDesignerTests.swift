import PostProcessing
import PostProcessingKernels
import QKDModel
import Testing

/// The built-in tables are what the designer makes of their recipes, and have the property that it is there for.
@Suite struct ReconciliationDesignerTests {
    /// Rates, then what ldpc_tables.c says.
    static let recipes: [(String, ldpc_recipe)] = [
        ("r02", recipe(800, 18, 10, 12, edges: 1728, mean: 61, walk: 10, snr: 0.0302, tail: 268, lower: 225)),
        ("r03", recipe(800, 20, 17, 13, edges: 1830, mean: 48.5, walk: 10, snr: 0.0457, tail: 320, lower: 206)),
        ("r05", recipe(800, 31, 25, 16, edges: 1976, mean: 37, walk: 9, snr: 0.0775, tail: 240, lower: 100)),
        ("r07", recipe(400, 20, 17, 9, edges: 1016, mean: 29, walk: 9, snr: 0.11, tail: 125, lower: 26)),
        ("r10", recipe(400, 27, 23, 10, edges: 1030, mean: 22.5, walk: 9, snr: 0.16, tail: 134, lower: 20)),
    ]

    static func recipe(
        _ base: Int32, _ degree2: Int32, _ degree3: Int32, _ rows: Int32, edges: Int32, mean: Double, walk: Int32, snr: Double,
        tail: Int32 = 0, lower: Int32 = 0, blocks: Int32 = 0
    ) -> ldpc_recipe {
        ldpc_recipe(
            seed: 1, base_columns: base, degree2: degree2, degree3: degree3, core_rows: rows, ldgm_edges: edges,
            ldgm_degree_of_degree2: mean, blocks: blocks, walk_limit: walk, sweeps: 12, snr: snr, tail_rows: tail, tail_lower: lower)
    }

    static func design(_ recipe: ldpc_recipe) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 10_000) { table, filled in
            filled = withUnsafePointer(to: recipe) { ldpc_design_table($0, table.baseAddress, 10_000) }
        }
    }

    /// The short frames of all rates that take a second or so to design, and a long one.
    @Test(arguments: ["r02-n204800", "r03-n204800", "r05-n204800", "r07-n204800", "r10-n204800", "r05-n1024000"])
    func tablesAreReproduced(id: String) throws {
        var recipe = try #require(Self.recipes.first { id.hasPrefix($0.0) }).1
        let code = try ReconciliationCode.named(id)
        recipe.blocks = Int32(code.frameBits) / 64 / recipe.base_columns
        var table: [UInt8] = []
        for (_, edges) in Dictionary(grouping: code.graph.edges, by: \.row).sorted(by: { $0.key < $1.key }) {
            table.append(UInt8(edges.count))
            for edge in edges { table += [UInt8(edge.column), UInt8(edge.lane), UInt8(edge.block)] }
        }
        #expect(Self.design(recipe) == table)
    }

    @Test func impossibleRecipesAreRefused() {
        let refused = { (recipe: ldpc_recipe) in Self.design(recipe).isEmpty }
        #expect(refused(Self.recipe(400, 27, 23, 2, edges: 1030, mean: 22.5, walk: 9, snr: 0.16, blocks: 8)))
        #expect(refused(Self.recipe(400, 27, 23, 10, edges: 100, mean: 3, walk: 9, snr: 0.16, blocks: 8)))
        // So few shifts that columns must meet twice.
        #expect(refused(Self.recipe(400, 4, 2, 3, edges: 1030, mean: 150, walk: 3, snr: 0.16, blocks: 1)))
        // More rows of the lower degree in the tail than there are.
        #expect(refused(Self.recipe(400, 27, 23, 10, edges: 1030, mean: 22.5, walk: 3, snr: 0.16, tail: 30, lower: 21, blocks: 8)))
    }

    /// The shortest cycle of degree-2 columns in the lifted core graph, by breadth-first search from one check of each core row
    /// (the lift group carries it to the others). Short ones are words of low weight: the error floor.
    @Test(arguments: [
        ("r10-n204800", 8), ("r05-n204800", 8), ("r10-n1024000", 9), ("r05-n1024000", 9), ("r02-n204800", 6), ("r15-n204800", 5),
    ])
    func degree2CyclesAreLong(id: String, atLeast: Int) throws {
        let graph = try ReconciliationCode.named(id).graph
        let core = graph.edges.filter { $0.row < graph.coreRows }
        let ends = Dictionary(grouping: core, by: \.column).values.filter { $0.count == 2 }
        let size = 64 * graph.blocks
        var links = [[(to: Int, column: Int, lane: Int, block: Int)]](repeating: [], count: graph.coreRows)
        for pair in ends {
            for (a, b) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                links[a.row].append((b.row, a.column, a.lane - b.lane + 64, a.block - b.block + graph.blocks))
            }
        }
        var shortest = Int.max
        for start in 0..<graph.coreRows {
            var distance = [Int](repeating: -1, count: graph.coreRows * size)
            var parent = [Int](repeating: -1, count: distance.count)
            var queue = [start * size]
            distance[start * size] = 0
            var head = 0
            while head < queue.count, distance[queue[head]] < atLeast {
                let check = queue[head]
                head += 1
                let (row, block, lane) = (check / size, check % size / 64, check % 64)
                for link in links[row] {
                    let other = link.to * size + (block + link.block) % graph.blocks * 64 + (lane + link.lane) % 64
                    // The column element, named from the end with the smaller row, tells an edge from its way back.
                    let name = row < link.to ? check * 1000 + link.column : other * 1000 + link.column
                    if name == parent[check] { continue }
                    if distance[other] < 0 {
                        distance[other] = distance[check] + 1
                        parent[other] = name
                        queue.append(other)
                    } else {
                        shortest = min(shortest, distance[check] + distance[other] + 1)
                    }
                }
            }
        }
        print("\(id): shortest cycle of degree-2 columns seen has \(shortest == .max ? "more than \(atLeast)" : "\(shortest)") columns")
        #expect(shortest >= atLeast)
    }
}
