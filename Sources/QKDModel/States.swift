// What devices and links can be, in the words that operators see.

/// What a QKD module does on a link (ETSI GS QKD 015 `qkd-role-types`).
public enum DeviceRole: String, Codable, Sendable, CaseIterable {
    case transmitter = "TRANSMITTER"
    case receiver = "RECEIVER"
}

/// The state of one device as the link service sees it.
public enum DeviceState: String, Codable, Sendable, CaseIterable {
    /// Not reachable, or switched off.
    case off = "OFF"
    /// Booting, warming up or being opened.
    case initialising = "INIT"
    case calibrating = "CALIBRATING"
    case ready = "READY"
    case generating = "GENERATING"
    /// Answers, but cannot be used until a person or a calibration mends it.
    case fault = "FAULT"
}

/// The state of one link (ETSI GS QKD 015 `link-status-types`).
public enum LinkState: String, Codable, Sendable, CaseIterable {
    case off = "OFF"
    case pending = "PENDING"
    case active = "ACTIVE"
    case passive = "PASSIVE"
}

/// Where the symbols behind a key came from. Keys of an emulator derive from its seed and are no secrets.
public enum KeyProvenance: String, Codable, Sendable, CaseIterable {
    case hardware
    case emulated
}

/// How much an alarm matters (ETSI GS QKD 015 `severity-types`).
public enum Severity: String, Codable, Sendable, CaseIterable {
    case major = "MAJOR"
    case minor = "MINOR"
}
