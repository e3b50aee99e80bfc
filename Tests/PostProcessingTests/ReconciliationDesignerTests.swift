import PostProcessing
import PostProcessingKernels
import QKDModel
import Testing

/// The built-in tables are what the designer makes of their recipes, and have the property that it is there for.
@Suite struct ReconciliationDesignerTests {
    static let recipes: [(String, ldpc_recipe)] = [
        ("r10-n204800", recipe(27, 23, 10, edges: 1030, mean: 22.5, blocks: 8, walk: 9, sweeps: 12, snr: 0.16)),
        ("r05-n204800", recipe(16, 12, 8, edges: 976, mean: 37, blocks: 8, walk: 10, sweeps: 12, snr: 0.0745)),
        ("r05-n1024000", recipe(16, 12, 8, edges: 976, mean: 37, blocks: 40, walk: 8, sweeps: 6, snr: 0.0745)),
    ]

    static func recipe(
        _ degree2: Int32, _ degree3: Int32, _ rows: Int32, edges: Int32, mean: Double, blocks: Int32, walk: Int32, sweeps: Int32,
        snr: Double
    ) -> ldpc_recipe {
        ldpc_recipe(
            seed: 1, base_columns: 400, degree2: degree2, degree3: degree3, core_rows: rows, ldgm_edges: edges,
            ldgm_degree_of_degree2: mean, blocks: blocks, walk_limit: walk, sweeps: sweeps, snr: snr)
    }

    static func design(_ recipe: ldpc_recipe) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 10_000) { table, filled in
            filled = withUnsafePointer(to: recipe) { ldpc_design_table($0, table.baseAddress, 10_000) }
        }
    }

    @Test(arguments: recipes.indices) func tablesAreReproduced(index: Int) throws {
        let (id, recipe) = Self.recipes[index]
        var table: [UInt8] = []
        for (_, edges) in Dictionary(grouping: try ReconciliationCode.named(id).graph.edges, by: \.row).sorted(by: { $0.key < $1.key }) {
            table.append(UInt8(edges.count))
            for edge in edges { table += [UInt8(edge.column), UInt8(edge.lane), UInt8(edge.block)] }
        }
        #expect(Self.design(recipe) == table)
    }

    @Test func impossibleRecipesAreRefused() {
        #expect(Self.design(Self.recipe(27, 23, 2, edges: 1030, mean: 22.5, blocks: 8, walk: 9, sweeps: 1, snr: 0.16)).isEmpty)
        #expect(Self.design(Self.recipe(27, 23, 10, edges: 100, mean: 3, blocks: 8, walk: 9, sweeps: 1, snr: 0.16)).isEmpty)
        // So few shifts that columns must meet twice.
        #expect(Self.design(Self.recipe(4, 2, 3, edges: 1030, mean: 150, blocks: 1, walk: 3, sweeps: 1, snr: 0.16)).isEmpty)
    }

    /// The shortest cycle of degree-2 columns in the lifted core graph, by breadth-first search from one check of each core row
    /// (the lift group carries it to the others). Short ones are words of low weight: the error floor.
    @Test(arguments: [("r10-n204800", 8), ("r05-n204800", 10), ("r10-n1024000", 10), ("r05-n1024000", 9)])
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
