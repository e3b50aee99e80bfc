// What a process that holds key asks of the kernel before it reads any.

import Glibc

/// Keeps a process's memory to itself.
public enum Hardening {
    /// No core dump, and no other process of the same user may read this one's memory or attach to it. To be called
    /// first of all; what the kernel refuses is left as it is.
    ///
    /// - Returns: whether both are in force.
    @discardableResult
    public static func apply() -> Bool {
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        let noCore = setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none) == 0
        return setDumpable(false) && noCore
    }

    private typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32

    /// prctl(2) is variadic in its header, which Swift does not import; in the kernel and the library it takes five words.
    private static func setDumpable(_ dumpable: Bool) -> Bool {
        guard let symbol = dlsym(nil, "prctl") else { return false }
        let setDumpable: Int32 = 4
        return unsafeBitCast(symbol, to: Control.self)(setDumpable, dumpable ? 1 : 0, 0, 0, 0) == 0
    }
}
