//go:build !linux

package sensor

import "time"

// alarm is a sleep that any goroutine can end.
type alarm struct{ ended chan struct{} }

func newAlarm() alarm { return alarm{make(chan struct{})} }

// sleep sleeps for d; it answers false once end was called.
func (a *alarm) sleep(d time.Duration) bool {
	select {
	case <-a.ended:
		return false
	case <-time.After(d):
		return true
	}
}

// end ends all sleeps, also those to come. It may be called once.
func (a *alarm) end() { close(a.ended) }
