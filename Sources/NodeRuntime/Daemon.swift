// The life of a service: its parts run together, a signal asks them to finish, and a limit holds them to it.

public import Logging
public import ServiceLifecycle
import UnixSignals

public enum Daemon {
    /// Runs `services` until one of them ends or fails, or SIGTERM or SIGINT arrives. Then all are asked to finish, in
    /// reverse order, and cancelled after `limit`.
    ///
    /// The manager that started the process hears of progress and of the end (`Supervision.shared`).
    ///
    /// - Throws: what a service threw. A stop by signal is no error.
    public static func run(
        _ services: [any Service], logger: Logger, limit: Duration = .seconds(10), supervision: Supervision = .shared
    ) async throws {
        // Last, so that it is asked to finish first: the manager knows before the other parts begin to end.
        var configuration = ServiceGroupConfiguration(
            services: (services + [supervision.service(logger: logger)]).map {
                .init(
                    service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup)
            },
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: quiet(logger))
        configuration.maximumGracefulShutdownDuration = limit
        try await ServiceGroup(configuration: configuration).run()
    }

    private static func quiet(_ logger: Logger) -> Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }
}

/// A closure as a part of a service. It is cancelled when the service is asked to stop.
public struct Work: Service {
    private let body: @Sendable () async throws -> Void

    public init(_ body: @escaping @Sendable () async throws -> Void) { self.body = body }

    public func run() async throws {
        try await cancelWhenGracefulShutdown {
            do {
                try await body()
            } catch is CancellationError {
                // Being asked to stop is how it ends.
            }
        }
    }
}
