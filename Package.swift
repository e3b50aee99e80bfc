// swift-tools-version: 6.2
// The house in SwiftPM's words. docs/architecture.md has the picture; scripts/check-layers holds both to it.
//
// SDQKD_ONLY="A,B" keeps the named targets, what they need and their tests ("SystemTests" is a name too), so that
// sanitizers (and people in a hurry) build a reduced set of targets without servers and databases.

import PackageDescription

// MARK: - Words

/// Warnings are errors; every import is written where it is used.
let swift: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Kernels are optimised in every configuration: at -O0 they are 15 to 60 times slower. No contraction of
/// multiply and add, so that the same seed gives the same symbols on every machine.
let c: [CSetting] = [
    .unsafeFlags(["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"])
]

struct House {
    var name: String
    var kind: Kind = .library
    var imports: [String] = []
    var outside: [Target.Dependency] = []
    var folder = "Sources"
    var tests: Tests? = nil

    enum Kind {
        case library, program, kernel
        /// A C library of Debian's: its pkg-config name and its package.
        case system(String, String)
    }

    struct Tests {
        var imports: [String] = []
        var outside: [Target.Dependency] = []
        /// What is no source: clients in other languages, recordings.
        var besides: [String] = []
    }
}

func product(_ name: String, _ package: String) -> Target.Dependency { .product(name: name, package: package) }

let argumentParser = product("ArgumentParser", "swift-argument-parser")
let nio = [product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio")]
let http1 = product("NIOHTTP1", "swift-nio")
let nioTLS = product("NIOTLS", "swift-nio")
let tls = product("NIOSSL", "swift-nio-ssl")
let logging = product("Logging", "swift-log")
let hummingbird = product("Hummingbird", "hummingbird")
let hummingbirdTLS = product("HummingbirdTLS", "hummingbird")
let httpClient = product("AsyncHTTPClient", "async-http-client")
let lifecycle = product("ServiceLifecycle", "swift-service-lifecycle")
let unixSignals = product("UnixSignals", "swift-service-lifecycle")
let crypto = product("Crypto", "swift-crypto")
let x509 = product("X509", "swift-certificates")
let asn1 = product("SwiftASN1", "swift-asn1")
let database = product("GRDB", "GRDB.swift")
let yaml = product("Yams", "Yams")

// MARK: - The house, from the ground up

let house: [House] = [
    // Debian's C libraries, one shim each: a combined one would drag every library into every program.
    House(name: "CYang", kind: .system("libyang", "libyang2-dev"), folder: "Sources/System"),
    House(name: "CRabbitMQ", kind: .system("librabbitmq", "librabbitmq-dev"), folder: "Sources/System"),
    House(name: "CUSB", kind: .system("libusb-1.0", "libusb-1.0-0-dev"), folder: "Sources/System"),
    House(name: "CUdev", kind: .system("libudev", "libudev-dev"), folder: "Sources/System"),
    House(name: "CSystemd", kind: .system("libsystemd", "libsystemd-dev"), folder: "Sources/System"),
    // 0 words
    House(name: "QKDModel", tests: .init()),
    House(name: "CKeyMaterial", kind: .kernel),
    House(name: "KeyMaterial", imports: ["QKDModel", "CKeyMaterial"], tests: .init(imports: ["QKDModel", "CKeyMaterial"])),
    // 1 ground
    House(name: "CQuantumOptics", kind: .kernel),
    House(name: "QuantumOptics", imports: ["QKDModel", "CQuantumOptics"], tests: .init(imports: ["QKDModel"])),
    House(name: "CTransport", kind: .kernel),
    House(
        name: "Transport", imports: ["QKDModel", "CTransport", "CUSB", "CUdev"],
        tests: .init(imports: ["QKDModel", "QKDTesting"])),
    // 2 hands and head
    House(
        name: "Instruments", imports: ["QKDModel", "Transport"],
        tests: .init(imports: ["QKDModel", "Transport", "QKDTesting"], besides: ["Example/lark.transcript"])),
    House(name: "PostProcessingKernels", kind: .kernel),
    House(
        name: "PostProcessing", imports: ["QKDModel", "KeyMaterial", "QuantumOptics", "PostProcessingKernels"],
        tests: .init(imports: ["QKDModel", "KeyMaterial", "QuantumOptics", "PostProcessingKernels"])),
    House(name: "NodeAPI", imports: ["QKDModel"], tests: .init(imports: ["QKDModel"])),
    House(
        name: "KeyDeposit", imports: ["QKDModel", "KeyMaterial"],
        tests: .init(imports: ["QKDModel", "KeyMaterial"])),
    // 3 services
    House(
        name: "QuantumLink",
        imports: ["QKDModel", "KeyMaterial", "Transport", "Instruments", "PostProcessing"],
        outside: nio + [database, logging],
        tests: .init(
            imports: [
                "QKDModel", "KeyMaterial", "Transport", "Instruments", "PostProcessing", "QuantumOptics",
                "FirmwareSim", "QKDTesting",
            ], outside: nio + [logging])),
    House(
        name: "KeyStore", imports: ["QKDModel", "KeyMaterial"],
        outside: nio + [nioTLS, tls, database, crypto, hummingbird, hummingbirdTLS, x509, asn1, logging],
        tests: .init(
            imports: ["QKDModel", "KeyMaterial", "KeyDeposit", "QKDTesting"],
            outside: nio + [tls, crypto, x509, asn1, database, logging])),
    House(
        name: "RESTCONF", imports: ["CYang"],
        outside: nio + [http1, nioTLS, tls, hummingbird, hummingbirdTLS, httpClient, x509, asn1, yaml, logging, lifecycle],
        tests: .init(imports: ["CYang"], outside: nio + [http1, tls, httpClient, crypto, x509, asn1, logging, lifecycle])),
    House(
        name: "NodeRuntime", imports: ["QKDModel", "NodeAPI", "CSystemd"],
        outside: nio + [http1, hummingbird, httpClient, lifecycle, unixSignals, logging, yaml],
        tests: .init(imports: ["QKDModel", "NodeAPI"], outside: nio + [logging])),
    // 4 faces
    House(
        name: "SDNAgent", imports: ["QKDModel", "NodeAPI", "RESTCONF", "CRabbitMQ"], outside: [crypto, logging],
        tests: .init(imports: ["QKDModel", "NodeAPI", "RESTCONF"], outside: [logging])),
    House(
        name: "FirmwareSim", imports: ["QKDModel", "QuantumOptics", "CFirmwareSim"], outside: nio + [yaml],
        folder: "firmware-sim/Sources",
        tests: .init(imports: ["QKDModel", "QuantumOptics", "CFirmwareSim"])),
    House(name: "CFirmwareSim", kind: .kernel, folder: "firmware-sim/Sources"),
    // 5 programs
    House(
        name: "qkd-linkd", kind: .program,
        imports: [
            "QKDModel", "KeyMaterial", "Transport", "Instruments", "QuantumLink", "KeyDeposit", "NodeAPI", "NodeRuntime",
        ],
        outside: [argumentParser, logging, lifecycle]),
    House(
        name: "qkd-lkmsd", kind: .program,
        imports: ["QKDModel", "KeyMaterial", "KeyStore", "KeyDeposit", "NodeAPI", "NodeRuntime"],
        outside: [argumentParser, logging, lifecycle]),
    House(
        name: "qkd-agentd", kind: .program, imports: ["QKDModel", "NodeAPI", "NodeRuntime", "RESTCONF", "SDNAgent"],
        outside: [argumentParser, logging, lifecycle]),
    House(
        name: "qkdctl", kind: .program,
        imports: [
            "QKDModel", "KeyMaterial", "QuantumOptics", "Transport", "Instruments", "PostProcessing", "QuantumLink", "NodeAPI",
            "NodeRuntime",
        ],
        outside: nio + [argumentParser, x509, asn1, crypto, yaml, logging, httpClient, http1, tls]),
    House(
        name: "qkd-emulator", kind: .program, imports: ["QKDModel", "QuantumOptics", "FirmwareSim"],
        outside: [argumentParser], folder: "firmware-sim/Sources"),
    // tests' own
    House(
        name: "usb-exercise", kind: .program, imports: ["QKDModel", "Transport", "Instruments"], folder: "Tests/Programs"),
    House(
        name: "agent-bench", kind: .program, imports: ["RESTCONF", "SDNAgent"], outside: [argumentParser, logging],
        folder: "Tests/Programs"),
    House(name: "QKDTesting", imports: ["QKDModel", "Transport"]),
]

// MARK: - A reduced house, if asked for

func closure(of names: [String]) -> Set<String> {
    var kept = Set<String>()
    var open = names
    while let name = open.popLast() {
        guard kept.insert(name).inserted else { continue }
        guard let room = house.first(where: { $0.name == name }) else { fatalError("SDQKD_ONLY names no target: \(name)") }
        open += room.imports
        if names.contains(name) { open += room.tests?.imports ?? [] }
    }
    return kept
}

let asked = Context.environment["SDQKD_ONLY"]?.split(separator: ",").map(String.init)
let kept = asked.map { closure(of: $0.filter { $0 != "SystemTests" }) }
let rooms = house.filter { kept?.contains($0.name) ?? true }

// MARK: - In SwiftPM's words

var targets: [Target] = []
for room in rooms {
    let dependencies = room.imports.map { Target.Dependency.target(name: $0) } + room.outside
    let path = "\(room.folder)/\(room.name)"
    switch room.kind {
    case .system(let pkgConfig, let debian):
        targets.append(.systemLibrary(name: room.name, path: path, pkgConfig: pkgConfig, providers: [.apt([debian])]))
    case .kernel:
        targets.append(.target(name: room.name, path: path, cSettings: c))
    case .library:
        targets.append(.target(name: room.name, dependencies: dependencies, path: path, swiftSettings: swift))
    case .program:
        targets.append(.executableTarget(name: room.name, dependencies: dependencies, path: path, swiftSettings: swift))
    }
    guard let tests = room.tests, asked?.contains(room.name) ?? true else { continue }
    let imports = [room.name] + tests.imports
    targets.append(
        .testTarget(
            name: "\(room.name)Tests",
            dependencies: imports.map { .target(name: $0) } + tests.outside,
            path: "Tests/\(room.name)Tests", exclude: tests.besides, swiftSettings: swift))
}
if asked?.contains("SystemTests") ?? true {
    targets.append(
        .testTarget(
            name: "SystemTests", dependencies: ["QKDModel", "NodeAPI"], path: "Tests/SystemTests", exclude: ["clients"],
            swiftSettings: swift))
}

let package = Package(
    name: "sdqkd",
    products: rooms.filter { if case .program = $0.kind { true } else { false } }.map { .executable(name: $0.name, targets: [$0.name]) },
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-certificates", exact: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    ],
    targets: targets,
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu17
)
