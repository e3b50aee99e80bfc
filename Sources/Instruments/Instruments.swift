// Instruments: what a CV-QKD transmitter or receiver can do, as types; and how it is said on the wire.
//
//   Modules.open("tcp:127.0.0.1:5025")
//      InstrumentSession (Transport)      messages, answers, deadlines, resynchronisation
//      SCPISession                        typed getters with ranges; the error queue read after every command
//      DriverTable                        *IDN? -> driver folder
//      QuantumTransmitter/QuantumReceiver what link services and people use
//      SymbolSource                       frames in order: checked, fetched again, gaps reported
//   ManagedModule                         the same module for ever: reopened with back-off, every state an event
//
// Symbols live in pooled buffers (`SymbolBuffer`), one per frame, filled straight from the socket; nothing is made per symbol.
// A buffer goes back to its pool when the last frame that shows it is gone.
//
// Symbols are key-equivalent: no error, event or description here contains samples.
//
// Sources: docs/wire/instrument-protocol.md; SCPI-1999 volumes 1 and 2; RFC 3720 appendix B.4 (CRC-32C).
