// Symbols of the running slot at one end, by their place in the slot: kept from the device's batches without copying,
// cut into frames, thrown away when they are done with. A value.

internal import Foundation
internal import PostProcessing

struct SymbolStore: Sendable {
    private struct Part: Sendable {
        var start: Int
        var batch: SymbolBatch
        var end: Int { start + batch.count }
    }

    private var parts: [Part] = []

    init() {}

    /// Some symbols from a place on, for whoever has no batches.
    init(start: Int, samples: [Int16]) {
        let batch = SymbolBatch(kind: .signal, count: samples.count / 2, deviceTime: 0, utc: 0, scale: 1, storage: samples)
        parts = [Part(start: start, batch: batch)]
        end = start + batch.count
    }

    /// The place after the newest symbol; place 0 is the first symbol of the slot.
    private(set) var end = 0
    /// UTC of place 0, ns.
    private(set) var startUTC: UInt64 = 0

    /// The oldest place that is still there.
    var start: Int { parts.first?.start ?? end }
    var held: Int { end - start }
    var scale: Float { parts.first?.batch.scale ?? 0 }

    /// - Throws: `SlotOver` when symbols are missing before the batch.
    mutating func append(_ batch: SymbolBatch) throws {
        if end == 0 {
            startUTC = batch.utc
        } else if batch.afterGap {
            throw SlotOver(reason: SlotOver.overrun)
        }
        parts.append(Part(start: end, batch: batch))
        end += batch.count
    }

    /// Throws away what lies before `place`, in whole batches.
    mutating func discard(before place: Int) {
        let keep = parts.firstIndex { $0.end > place } ?? parts.count
        if keep > 0 { parts.removeFirst(keep) }
    }

    /// The place of a symbol by its UTC, counted from the nearest batch that is held.
    func place(utc: UInt64, symbolRate: Double) -> Int? {
        guard symbolRate > 0, let part = parts.last(where: { $0.batch.utc <= utc }) ?? parts.first else { return nil }
        let nanoseconds = Double(Int64(bitPattern: utc &- part.batch.utc))
        let offset = nanoseconds * symbolRate / 1e9
        guard offset.magnitude < 1e12 else { return nil }
        return part.start + Int(offset.rounded())
    }

    /// UTC of the symbol at a held place.
    func utc(of place: Int, symbolRate: Double) -> UInt64? {
        guard let part = parts.first(where: { $0.start <= place && place < $0.end }) else { return nil }
        return part.batch.utc &+ UInt64((Double(place - part.start) / symbolRate * 1e9).rounded())
    }

    func holds(_ range: Range<Int>) -> Bool { range.lowerBound >= start && range.upperBound <= end }

    /// Calls `body` with each piece of a held range: samples and the piece's first place in the range.
    func forEachPiece(in range: Range<Int>, _ body: (UnsafeBufferPointer<Int16>, Int) -> Void) {
        for part in parts where part.end > range.lowerBound && part.start < range.upperBound {
            let from = max(part.start, range.lowerBound)
            let to = min(part.end, range.upperBound)
            part.batch.storage.withSamples { samples in
                body(UnsafeBufferPointer(rebasing: samples[2 * (from - part.start)..<2 * (to - part.start)]), from - range.lowerBound)
            }
        }
    }

    func samples(in range: Range<Int>) -> [Int16] {
        [Int16](unsafeUninitializedCapacity: 2 * range.count) { target, count in
            forEachPiece(in: range) { piece, first in
                guard let to = target.baseAddress, let from = piece.baseAddress else { return }
                (to + 2 * first).update(from: from, count: piece.count)
            }
            count = 2 * range.count
        }
    }
}

/// Converter steps to quadratures in units of shot noise.
enum Quadratures {
    /// `(sample - mean) / unit`, turned back by the slot's phase: what the receiver's end works with.
    static func received(_ samples: [Int16], _ reference: SlotFrameOfReference) -> [Float] {
        SymbolConverter(scale: 1 / reference.unit, offsetX: reference.meanX, offsetP: reference.meanP, phase: reference.phase).convert(
            samples)
    }

    /// What the transmitter sent, sqrt(SNU) at the fibre input, turned by `phase`.
    static func sent(_ samples: [Int16], scale: Float, phase: Double) -> [Float] {
        SymbolConverter(scale: Double(scale), phase: -phase).convert(samples)
    }

    static func squares(_ values: [Float]) -> Double {
        var total = 0.0
        var index = 0
        while index < values.count {
            // Short runs in Float, long sums in Double.
            let end = min(index + 64, values.count)
            var run: Float = 0
            while index < end {
                run += values[index] * values[index]
                index += 1
            }
            total += Double(run)
        }
        return total
    }

    /// The phase by which `y` is still turned against `x`, rad.
    static func residualPhase(x: UnsafeBufferPointer<Float>, y: UnsafeBufferPointer<Float>) -> Double {
        var real = 0.0
        var imaginary = 0.0
        var index = 0
        while index + 1 < min(x.count, y.count) {
            real += Double(x[index] * y[index] + x[index + 1] * y[index + 1])
            imaginary += Double(x[index] * y[index + 1] - x[index + 1] * y[index])
            index += 2
        }
        return atan2(imaginary, real)
    }
}
