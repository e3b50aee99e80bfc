internal import Glibc

/// Processor time of the calling thread: what a benchmark counts, so that other work on the machine shows less in it.
package enum ThreadTime {
    /// Seconds since the thread began.
    package static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
    }
}
