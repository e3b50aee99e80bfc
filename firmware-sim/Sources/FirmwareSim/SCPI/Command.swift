// Every command of docs/wire/instrument-protocol.md. The raw value is the header as the standard writes it: capitals
// are the short form, brackets may be left out.

internal import QKDModel

enum Command: String, CaseIterable {
    // IEEE 488.2
    case clearStatus = "*CLS"
    case eventEnable = "*ESE"
    case eventEnableQuery = "*ESE?"
    case eventStatusQuery = "*ESR?"
    case identityQuery = "*IDN?"
    case operationComplete = "*OPC"
    case operationCompleteQuery = "*OPC?"
    case reset = "*RST"
    case serviceEnable = "*SRE"
    case serviceEnableQuery = "*SRE?"
    case statusByteQuery = "*STB?"
    case selfTestQuery = "*TST?"
    case wait = "*WAI"
    // SCPI-99
    case errorQuery = "SYSTem:ERRor[:NEXT]?"
    case errorCountQuery = "SYSTem:ERRor:COUNt?"
    case versionQuery = "SYSTem:VERSion?"
    case operationEventQuery = "STATus:OPERation[:EVENt]?"
    case operationConditionQuery = "STATus:OPERation:CONDition?"
    case operationEnable = "STATus:OPERation:ENABle"
    case operationEnableQuery = "STATus:OPERation:ENABle?"
    case questionableEventQuery = "STATus:QUEStionable[:EVENt]?"
    case questionableConditionQuery = "STATus:QUEStionable:CONDition?"
    case questionableEnable = "STATus:QUEStionable:ENABle"
    case questionableEnableQuery = "STATus:QUEStionable:ENABle?"
    case statusPreset = "STATus:PRESet"
    // Exclusive use
    case lockRequestQuery = "SYSTem:LOCK:REQuest?"
    case lockRelease = "SYSTem:LOCK:RELease"
    case lockOwnerQuery = "SYSTem:LOCK:OWNer?"
    // Identity and capabilities
    case roleQuery = "SYSTem:ROLE?"
    case emulatedQuery = "SYSTem:EMULated?"
    case stateQuery = "SYSTem:STATe?"
    case timeQuery = "SYSTem:TIME?"
    case reboot = "SYSTem:REBoot"
    case symbolRatesQuery = "SYSTem:CAPability:SRATe?"
    case modulationsQuery = "SYSTem:CAPability:MODulation?"
    case wavelengthsQuery = "SYSTem:CAPability:WAVelength?"
    case pathsQuery = "SYSTem:CAPability:PATHs?"
    case calibrationsQuery = "SYSTem:CAPability:CALibration?"
    case blockQuery = "SYSTem:CAPability:BLOCk?"
    // Transmitter
    case frequency = "SOURce:OPTical:FREQuency"
    case frequencyQuery = "SOURce:OPTical:FREQuency?"
    case variance = "SOURce:MODulation:VARiance"
    case varianceQuery = "SOURce:MODulation:VARiance?"
    case pilot = "SOURce:PILot:STATe"
    case pilotQuery = "SOURce:PILot:STATe?"
    case pilotRatio = "SOURce:PILot:RATio"
    case pilotRatioQuery = "SOURce:PILot:RATio?"
    case path = "ROUTe:PATH"
    case pathQuery = "ROUTe:PATH?"
    case settledQuery = "ROUTe:SETTled?"
    case output = "OUTPut:STATe"
    case outputQuery = "OUTPut:STATe?"
    // Receiver
    case oscillator = "INPut:LOSCillator:STATe"
    case oscillatorQuery = "INPut:LOSCillator:STATe?"
    case shutter = "INPut:SHUTter:STATe"
    case shutterQuery = "INPut:SHUTter:STATe?"
    case pilotLockQuery = "INPut:PILot:LOCK?"
    case relock = "INPut:PILot:RELock"
    case efficiencyQuery = "INPut:EFFiciency?"
    case rangeQuery = "INPut:RANGe?"
    // Calibration
    case calibrate = "CALibration:STARt"
    case calibrationAbort = "CALibration:ABORt"
    case calibrationStateQuery = "CALibration:STATe?"
    case calibrationProgressQuery = "CALibration:PROGress?"
    case calibrationResultQuery = "CALibration:RESult?"
    case calibrationAgeQuery = "CALibration:AGE?"
    case calibrationValidQuery = "CALibration:VALid?"
    case calibrationValidityQuery = "CALibration:VALIDITY?"
    // Acquisition
    case symbolRate = "ACQuire:SRATe"
    case symbolRateQuery = "ACQuire:SRATe?"
    case acquire = "ACQuire:STARt"
    case acquireStop = "ACQuire:STOP"
    case acquireStateQuery = "ACQuire:STATe?"
    case availableQuery = "ACQuire:AVAilable?"
    case release = "ACQuire:RELease"
    case overrunQuery = "ACQuire:OVERrun?"
    case fetchQuery = "FETCh:SYMBols?"
    case dataPortQuery = "DATA:PORT?"
    case dataTokenQuery = "DATA:TOKen?"
    // Diagnostics
    case spectrumQuery = "DIAGnostic:OSA?"
    case reflectometryQuery = "DIAGnostic:OTDR?"
    case temperatureQuery = "DIAGnostic:TEMPerature?"
    case phaseVarianceQuery = "DIAGnostic:PHASe:VARiance?"
    case opticalPowerQuery = "DIAGnostic:OPTical:POWer?"
    // Simulation
    case simulatedTimeQuery = "SIMulate:TIME?"
    case paceQuery = "SIMulate:PACE?"
    case fault = "SIMulate:FAULt"
    case faultClear = "SIMulate:FAULt:CLEar"
    case faultListQuery = "SIMulate:FAULt:LIST?"

    var isQuery: Bool { rawValue.hasSuffix("?") }

    /// How many parameters it takes.
    var arguments: ClosedRange<Int> {
        switch self {
        case .eventEnable, .serviceEnable, .operationEnable, .questionableEnable, .frequency, .variance, .pilot, .pilotRatio, .path,
            .output, .oscillator, .shutter, .calibrationResultQuery, .calibrationAgeQuery, .calibrationValidQuery,
            .calibrationValidityQuery, .symbolRate, .release:
            1...1
        case .calibrate: 1...2
        case .acquire, .faultClear: 0...1
        case .fetchQuery: 2...2
        case .spectrumQuery: 3...3
        case .fault: 1...3
        default: 0...0
        }
    }

    /// The role that has the command; `nil` for both.
    var role: DeviceRole? {
        switch rawValue.prefix(4) {
        case "SOUR", "ROUT", "OUTP": .transmitter
        case "INPu": .receiver
        default: nil
        }
    }

    /// Whether it is refused while another session holds the lock.
    var needsLock: Bool {
        switch self {
        case .dataTokenQuery: true
        case .clearStatus, .eventEnable, .serviceEnable, .operationComplete, .wait, .operationEnable, .questionableEnable, .statusPreset,
            .lockRelease, .fault, .faultClear:
            false
        default: !isQuery
        }
    }
}
