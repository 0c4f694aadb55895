package sensor

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of futex(2), which package unix does not name.
const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128
)

// alarm is a sleep that any goroutine can end. It waits in one system call that blocks the thread, because a timer of
// the runtime takes about 100 µs of CPU time more: other threads wake up with it to look for work. Between two sleeps
// the goroutine must not yield (runtime.Gosched), or the runtime's monitor polls for 10 ms before it takes the
// processor back from the call: five times the CPU time.
type alarm struct{ ended uint32 }

func newAlarm() alarm { return alarm{} }

// sleep sleeps for d, or for less when a signal comes; it answers false once end was called.
func (a *alarm) sleep(d time.Duration) bool {
	timeout := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&a.ended)), futexWait|futexPrivate, 0,
		uintptr(unsafe.Pointer(&timeout)), 0, 0) // returns at once if ended is not 0
	return atomic.LoadUint32(&a.ended) == 0
}

// end ends all sleeps, also those to come.
func (a *alarm) end() {
	atomic.StoreUint32(&a.ended, 1)
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&a.ended)), futexWake|futexPrivate, math.MaxInt32, 0, 0, 0)
}
